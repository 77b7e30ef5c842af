// SPDX-License-Identifier: Apache-2.0
// Signer: the private half of a journal's key. Who has it can sign another history; who kept a
// checkpoint can prove that it is another one.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "journal/checkpoint.h"

struct evp_pkey_st;

namespace aether::journal {

class Signer {
 public:
  /// @param seed The 32 secret bytes.
  static Result<Signer> from_seed(std::string name, std::string_view seed);
  /// "PRIVATE+KEY+name+hash+base64", as sumdb/note writes it.
  static Result<Signer> parse(std::string_view text);
  /// The key of the file; a new one, in a new file with mode 0600, if there is none. A file that
  /// others may read is refused.
  static Result<Signer> load_or_create(std::string const& path, std::string const& name);

  [[nodiscard]] VerifierKey const& verifier() const { return verifier_; }
  [[nodiscard]] std::string private_text() const;
  [[nodiscard]] Result<std::string> sign(std::string text) const;

 private:
  struct Free {
    void operator()(evp_pkey_st* key) const;
  };
  Signer(std::unique_ptr<evp_pkey_st, Free> key, std::string seed, VerifierKey verifier)
      : key_(std::move(key)), seed_(std::move(seed)), verifier_(std::move(verifier)) {}

  std::unique_ptr<evp_pkey_st, Free> key_;
  std::string seed_;
  VerifierKey verifier_;
};

/// Bytes that nobody can guess: seeds of keys, salts of blobs.
[[nodiscard]] std::string secret_bytes(std::size_t count);

/// Signs the journal's tree as it is now, has the note kept, and gives it. Waits for the disk.
[[nodiscard]] Result<std::string> sign_checkpoint(Journal& journal, Signer const& signer);

}  // namespace aether::journal
