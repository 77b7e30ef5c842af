// SPDX-License-Identifier: Apache-2.0
#include "journal/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <memory>

#include <fmt/format.h>
#include <openssl/evp.h>

namespace aether::journal {
namespace {

constexpr std::string_view kSignatureBegin = "\xe2\x80\x94 ";  // an em dash and a space
constexpr char kEd25519 = '\x01';                              // sumdb/note's algEd25519
constexpr std::size_t kPublicKeyBytes = 32;
constexpr std::size_t kKeyIdBytes = 4;
constexpr std::size_t kSignaturesMax = 16;

Failure no_checkpoint(std::string_view what) {
  return fail(ErrorCode::EvidenceInvalid, fmt::format("reading a signed checkpoint: {}", what));
}

/// Up to the next line break, which is taken as well; nothing if there is none.
std::optional<std::string_view> take_line(std::string_view& rest) {
  std::size_t const end = rest.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  std::string_view const line = rest.substr(0, end);
  rest.remove_prefix(end + 1);
  return line;
}

std::string key_id_bytes(std::uint32_t id) {
  std::string bytes;
  for (int shift : {24, 16, 8, 0}) bytes += static_cast<char>(id >> shift & 255U);
  return bytes;
}

std::uint32_t key_id_of(std::string_view bytes) {
  std::uint32_t id = 0;
  for (char const byte : bytes.substr(0, kKeyIdBytes)) {
    id = id << 8U | static_cast<std::uint8_t>(byte);
  }
  return id;
}

Result<SignedNote::Signature> parse_signature(std::string_view line) {
  if (!line.starts_with(kSignatureBegin)) return no_checkpoint("a line of signatures is none");
  line.remove_prefix(kSignatureBegin.size());
  std::size_t const space = std::min(line.find(' '), line.size());
  std::optional<std::string> const bytes =
      from_base64(line.substr(std::min(space + 1, line.size())));
  if (!is_key_name(line.substr(0, space)) || !bytes || bytes->size() <= kKeyIdBytes) {
    return no_checkpoint("a signature is not written as one");
  }
  return SignedNote::Signature{.name = std::string(line.substr(0, space)),
                               .key_id = key_id_of(*bytes),
                               .bytes = bytes->substr(kKeyIdBytes)};
}

}  // namespace

std::string checkpoint_text(Checkpoint const& checkpoint) {
  return fmt::format("{}\n{}\n{}\n", checkpoint.origin, checkpoint.head.size,
                     text_of(checkpoint.head.root));
}

Result<Checkpoint> parse_checkpoint_text(std::string_view text) {
  std::string_view rest = text;
  std::string_view const origin = take_line(rest).value_or("");
  std::string_view const size = take_line(rest).value_or("");
  std::optional<Hash> const root = hash_of_text(take_line(rest).value_or(""));
  Checkpoint checkpoint;
  checkpoint.origin = origin;
  auto const [end, error] =
      std::from_chars(size.data(), size.data() + size.size(), checkpoint.head.size);
  if (!is_key_name(origin) || error != std::errc() || !root) {
    return no_checkpoint("its text is not a name, a size and a root");
  }
  checkpoint.head.root = *root;
  if (checkpoint_text(checkpoint) != text)
    return no_checkpoint("its text has more than three lines");
  return checkpoint;
}

std::string note_text(SignedNote const& note) {
  std::string text = note.text + "\n";
  for (SignedNote::Signature const& each : note.signatures) {
    text += fmt::format("{}{} {}\n", kSignatureBegin, each.name,
                        to_base64(key_id_bytes(each.key_id) + each.bytes));
  }
  return text;
}

Result<SignedNote> parse_note(std::string_view text) {
  // The text ends where the last empty line is; what is signed may have empty lines itself.
  std::size_t const split = text.rfind("\n\n");
  if (split == std::string_view::npos)
    return no_checkpoint("no empty line parts text and signatures");
  SignedNote note;
  note.text = text.substr(0, split + 1);
  std::string_view rest = text.substr(split + 2);
  while (!rest.empty()) {
    std::optional<std::string_view> const line = take_line(rest);
    if (!line) return no_checkpoint("its last line does not end");
    TRY_ASSIGN(SignedNote::Signature signature, parse_signature(*line));
    note.signatures.push_back(std::move(signature));
    if (note.signatures.size() > kSignaturesMax) return no_checkpoint("it has too many signatures");
  }
  if (note.signatures.empty()) return no_checkpoint("nobody signed it");
  return note;
}

bool is_key_name(std::string_view name) {
  return is_name(name) && name.find_first_of(" +") == std::string_view::npos;
}

VerifierKey::VerifierKey(std::string name, std::string public_key)
    : name_(std::move(name)), public_key_(std::move(public_key)) {}

std::uint32_t VerifierKey::id() const {
  return key_id_of(sha256({name_, "\n", std::string_view(&kEd25519, 1), public_key_}).view());
}

std::string VerifierKey::text() const {
  return fmt::format("{}+{}+{}", name_, to_hex(key_id_bytes(id())),
                     to_base64(kEd25519 + public_key_));
}

Result<VerifierKey> VerifierKey::parse(std::string_view text) {
  std::size_t const first = std::min(text.find('+'), text.size());
  std::size_t const second = std::min(text.find('+', first + 1), text.size());
  std::optional<std::string> const bytes =
      from_base64(text.substr(std::min(second + 1, text.size())));
  if (is_key_name(text.substr(0, first)) && bytes && bytes->size() == kPublicKeyBytes + 1) {
    VerifierKey key(std::string(text.substr(0, first)), bytes->substr(1));
    if (key.text() == text) return key;
  }
  return no_checkpoint("the key that should have signed it is not written as name+hash+base64");
}

bool VerifierKey::has_signed(SignedNote const& note) const {
  auto const* const raw = reinterpret_cast<unsigned char const*>(public_key_.data());
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> const key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, raw, public_key_.size()),
      EVP_PKEY_free);
  if (!key) return false;
  auto const is_right = [&](SignedNote::Signature const& each) {
    if (each.name != name_ || each.key_id != id()) return false;
    std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> const context(EVP_MD_CTX_new(),
                                                                          EVP_MD_CTX_free);
    return EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
           EVP_DigestVerify(
               context.get(), reinterpret_cast<unsigned char const*>(each.bytes.data()),
               each.bytes.size(), reinterpret_cast<unsigned char const*>(note.text.data()),
               note.text.size()) == 1;
  };
  return std::ranges::any_of(note.signatures, is_right);
}

Result<Checkpoint> open_checkpoint(std::string_view note, VerifierKey const& key) {
  TRY_ASSIGN(SignedNote const parsed, parse_note(note));
  if (!key.has_signed(parsed)) {
    return no_checkpoint(
        fmt::format("no signature of the key {} is on it, or the text was changed", key.text()));
  }
  TRY_ASSIGN(Checkpoint checkpoint, parse_checkpoint_text(parsed.text));
  if (checkpoint.origin == key.name()) return checkpoint;
  return no_checkpoint("it is of another journal than its key");
}

}  // namespace aether::journal
