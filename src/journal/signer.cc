// SPDX-License-Identifier: Apache-2.0
#include "journal/signer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "base/check.h"
#include "os/file.h"
#include "os/unique_fd.h"

namespace aether::journal {
namespace {

constexpr std::size_t kSeedBytes = 32;
constexpr std::string_view kPrivate = "PRIVATE+KEY+";
constexpr std::size_t kKeyFileBytesMax = 4096;

/// Where the key begins in "name+hash+key", whose base64 may have pluses as well.
std::size_t key_at(std::string_view text) {
  std::size_t const name_end = std::min(text.find('+'), text.size());
  std::size_t const hash_end = std::min(text.find('+', name_end + 1), text.size());
  return std::min(hash_end + 1, text.size());
}

/// The file's text, if nobody else may read it; an empty text if there is no file.
Result<std::string> read_key_file(std::string const& path) {
  os::UniqueFd const file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file && errno == ENOENT) return std::string();
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0) return fail(system_error("open", path));
  if ((status.st_mode & 077U) != 0) {
    return fail(ErrorCode::StoreUnavailable,
                fmt::format("reading the signing key {}: others than its owner may read it (mode "
                            "{:o}); chmod 600 it, or take it away for a new one",
                            path, status.st_mode & 0777U));
  }
  return os::read_file(fmt::format("/proc/self/fd/{}", file.get()), kKeyFileBytesMax);
}

}  // namespace

void Signer::Free::operator()(evp_pkey_st* key) const {
  EVP_PKEY_free(key);
}

Result<Signer> Signer::from_seed(std::string name, std::string_view seed) {
  AETHER_CHECK(seed.size() == kSeedBytes);
  if (!is_key_name(name)) {
    return fail(ErrorCode::RequestInvalid,
                fmt::format("a journal's name must have no space, plus, quote or backslash, and "
                            "\"{}\" is none",
                            name));
  }
  std::unique_ptr<evp_pkey_st, Free> key(EVP_PKEY_new_raw_private_key(
      EVP_PKEY_ED25519, nullptr, reinterpret_cast<unsigned char const*>(seed.data()), seed.size()));
  std::string public_key(kSeedBytes, '\0');
  std::size_t size = public_key.size();
  bool const made =
      key && EVP_PKEY_get_raw_public_key(
                 key.get(), reinterpret_cast<unsigned char*>(public_key.data()), &size) == 1;
  if (!made) return fail(ErrorCode::Unsupported, "this OpenSSL has no Ed25519");
  VerifierKey verifier(std::move(name), std::move(public_key));
  return Signer(std::move(key), std::string(seed), std::move(verifier));
}

std::string Signer::private_text() const {
  std::string const shown = verifier_.text();
  return fmt::format("{}{}{}", kPrivate, shown.substr(0, key_at(shown)), to_base64('\x01' + seed_));
}

Result<Signer> Signer::parse(std::string_view text) {
  auto const wrong = fail(ErrorCode::StoreDamaged,
                          "reading a signing key: it is not written as PRIVATE+KEY+name+hash+key");
  if (!text.starts_with(kPrivate)) return wrong;
  std::string_view const rest = text.substr(kPrivate.size());
  std::optional<std::string> const bytes = from_base64(rest.substr(key_at(rest)));
  if (!bytes || bytes->size() != kSeedBytes + 1) return wrong;
  TRY_ASSIGN(Signer signer,
             from_seed(std::string(rest.substr(0, rest.find('+'))), bytes->substr(1)));
  if (signer.private_text() != text) return wrong;
  return signer;
}

Result<Signer> Signer::load_or_create(std::string const& path, std::string const& name) {
  TRY_ASSIGN(std::string text, read_key_file(path));
  while (text.ends_with('\n')) text.pop_back();
  if (!text.empty()) return parse(text);
  TRY_ASSIGN(Signer signer, from_seed(name, secret_bytes(kSeedBytes)));
  // Several processes may begin at once in one folder: the first one's key is everybody's.
  std::string const draft = fmt::format("{}.{}", path, ::getpid());
  TRY(os::write_file_atomically(draft, signer.private_text() + "\n", 0600));
  int const linked = ::link(draft.c_str(), path.c_str());
  int const why = errno;
  (void)::unlink(draft.c_str());
  if (linked == 0) return signer;
  if (why != EEXIST) return fail(system_error_from(why, "link", path));
  return load_or_create(path, name);
}

Result<std::string> Signer::sign(std::string text) const {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> const context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  std::array<unsigned char, 64> signature{};
  std::size_t size = signature.size();
  bool const signed_it =
      EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_.get()) == 1 &&
      EVP_DigestSign(context.get(), signature.data(), &size,
                     reinterpret_cast<unsigned char const*>(text.data()), text.size()) == 1;
  if (!signed_it) return fail(ErrorCode::Internal, "signing with Ed25519 failed");
  SignedNote note;
  note.text = std::move(text);
  note.signatures.push_back(
      {.name = verifier_.name(),
       .key_id = verifier_.id(),
       .bytes = std::string(reinterpret_cast<char const*>(signature.data()), size)});
  return note_text(note);
}

std::string secret_bytes(std::size_t count) {
  std::string bytes(count, '\0');
  bool const filled =
      RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(count)) == 1;
  AETHER_CHECK(filled, "the kernel gives no random bytes");
  return bytes;
}

Result<std::string> sign_checkpoint(Journal& journal, Signer const& signer) {
  Checkpoint checkpoint{.origin = signer.verifier().name(), .head = {}};
  TRY_ASSIGN(checkpoint.head, journal.tree_head());
  TRY_ASSIGN(std::string note, signer.sign(checkpoint_text(checkpoint)));
  Batch batch;
  batch.checkpoint = note;
  TRY(append_now(journal, std::move(batch)));
  return note;
}

}  // namespace aether::journal
