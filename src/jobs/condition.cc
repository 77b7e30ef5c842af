// SPDX-License-Identifier: Apache-2.0
#include "jobs/condition.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace aether::jobs {
namespace {

namespace json = boost::json;

/// Parentheses and negations within each other.
constexpr int kConditionDepthMax = 50;
constexpr std::size_t kConditionPartsMax = 500;

bool is_word_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/// How two values are ordered; nothing if they are of kinds that have no order.
std::optional<int> order_of(json::value const& a, json::value const& b) {
  if (a.is_number() && b.is_number()) {
    auto const x = a.to_number<double>();
    auto const y = b.to_number<double>();
    return x < y ? -1 : static_cast<int>(x > y);
  }
  if (a.is_string() && b.is_string()) {
    int const order = a.get_string().compare(b.get_string());
    return order < 0 ? -1 : static_cast<int>(order > 0);
  }
  return std::nullopt;
}

bool equals(json::value const& a, json::value const& b) {
  return canonical_json(a) == canonical_json(b);
}

/// Of a list: an item; of an object: a key; of a text: a part.
bool holds_within(json::value const& whole, json::value const& part) {
  if (auto const* array = whole.if_array())
    return std::ranges::any_of(*array, [&](json::value const& item) { return equals(item, part); });
  auto const* text = part.if_string();
  if (text == nullptr) return false;
  if (auto const* object = whole.if_object()) return object->contains(*text);
  auto const* all = whole.if_string();
  return all != nullptr &&
         std::string_view(all->data(), all->size())
                 .find(std::string_view(text->data(), text->size())) != std::string_view::npos;
}

}  // namespace

bool is_truthy(json::value const& value) {
  if (value.is_bool()) return value.get_bool();
  if (value.is_number()) return value.to_number<double>() != 0;
  if (value.is_string()) return !value.get_string().empty();
  if (value.is_array()) return !value.get_array().empty();
  if (value.is_object()) return !value.get_object().empty();
  return false;
}

class ConditionParser {
 public:
  explicit ConditionParser(std::string_view text) : text_(text) {}

  Result<Condition> run() {
    TRY_ASSIGN(std::size_t const whole, either());
    space();
    if (at_ < text_.size()) return mistake("nothing belongs here");
    condition_.whole_ = whole;
    return std::move(condition_);
  }

 private:
  using Kind = Condition::Kind;

  [[nodiscard]] Failure mistake(std::string_view reason) const {
    return fail(ErrorCode::RequestInvalid,
                fmt::format("the condition \"{}\" is wrong at column {}: {}", text_.substr(0, 120),
                            at_ + 1, reason));
  }
  void space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n'))
      ++at_;
  }
  bool take(std::string_view symbol) {
    space();
    if (!text_.substr(at_).starts_with(symbol)) return false;
    std::size_t const end = at_ + symbol.size();
    bool const word = is_word_character(symbol[0]);
    if (word && end < text_.size() && is_word_character(text_[end])) return false;
    at_ = end;
    return true;
  }
  Result<std::size_t> add(Condition::Part part) {
    if (condition_.parts_.size() >= kConditionPartsMax) return mistake("it is too long");
    condition_.parts_.push_back(std::move(part));
    return condition_.parts_.size() - 1;
  }
  Result<std::size_t> join(Kind kind, std::size_t left, std::size_t right) {
    return add({kind, {}, {}, left, right});
  }

  Result<std::size_t> either() {
    TRY_ASSIGN(std::size_t left, both());
    while (take("||") || take("or")) {
      TRY_ASSIGN(std::size_t const right, both());
      TRY_ASSIGN(left, join(Kind::Or, left, right));
    }
    return left;
  }
  Result<std::size_t> both() {
    TRY_ASSIGN(std::size_t left, negated());
    while (take("&&") || take("and")) {
      TRY_ASSIGN(std::size_t const right, negated());
      TRY_ASSIGN(left, join(Kind::And, left, right));
    }
    return left;
  }
  Result<std::size_t> negated() {
    space();
    bool const sign = at_ < text_.size() && text_[at_] == '!';
    if (sign) ++at_;
    if (!sign && !take("not")) return compared();
    if (++depth_ > kConditionDepthMax) return mistake("it is nested too deep");
    TRY_ASSIGN(std::size_t const inner, negated());
    --depth_;
    return join(Kind::Not, inner, inner);
  }
  Result<std::size_t> compared() {
    struct Comparison {
      std::string_view symbol;
      Kind kind;
      bool swapped;
    };
    static constexpr Comparison comparisons[] = {
        {"==", Kind::Equal, false},       {"!=", Kind::Unequal, false},
        {"<=", Kind::LessOrEqual, false}, {">=", Kind::LessOrEqual, true},
        {"<", Kind::Less, false},         {">", Kind::Less, true},
        {"in", Kind::Contains, true},     {"contains", Kind::Contains, false},
    };
    TRY_ASSIGN(std::size_t const left, operand());
    for (Comparison const& comparison : comparisons) {
      if (!take(comparison.symbol)) continue;
      TRY_ASSIGN(std::size_t const right, operand());
      return comparison.swapped ? join(comparison.kind, right, left)
                                : join(comparison.kind, left, right);
    }
    return left;
  }
  Result<std::size_t> operand() {
    space();
    if (at_ >= text_.size()) return mistake("a value is missing");
    char const c = text_[at_];
    if (c == '(') return parenthesis();
    if (c == '"' || c == '\'') return quoted(c);
    if (text_.substr(at_).starts_with("${")) {
      TRY_ASSIGN(Reference reference, parse_reference(text_, at_));
      return add({Kind::Reference, {}, std::move(reference), 0, 0});
    }
    if (take("true")) return add({Kind::Literal, json::value(true), {}, 0, 0});
    if (take("false")) return add({Kind::Literal, json::value(false), {}, 0, 0});
    if (take("null")) return add({Kind::Literal, json::value(), {}, 0, 0});
    return number();
  }
  Result<std::size_t> parenthesis() {
    if (++depth_ > kConditionDepthMax) return mistake("it is nested too deep");
    ++at_;
    TRY_ASSIGN(std::size_t const inner, either());
    if (!take(")")) return mistake("a ) is missing");
    --depth_;
    return inner;
  }
  Result<std::size_t> quoted(char quote) {
    auto const end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) return mistake("this text has no end");
    auto const content = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return add({Kind::Literal, json::value(json::string(content)), {}, 0, 0});
  }
  Result<std::size_t> number() {
    double number = 0;
    char const* const begin = text_.data() + at_;
    auto const [end, error] = std::from_chars(begin, text_.data() + text_.size(), number);
    bool const finite = number - number == 0;
    if (error != std::errc() || !finite)
      return mistake(
          "a value belongs here: ${node.member}, a number, a text in quotes, true, "
          "false or null");
    at_ += static_cast<std::size_t>(end - begin);
    return add({Kind::Literal, json::value(number), {}, 0, 0});
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
  Condition condition_;
};

Result<Condition> Condition::parse(std::string_view text) {
  return ConditionParser(text).run();
}

Condition Condition::constant(bool value) {
  Condition condition;
  condition.parts_.push_back({Kind::Literal, json::value(value), {}, 0, 0});
  return condition;
}

json::value Condition::value_of(std::size_t index, Scope const& scope) const {
  Part const& part = parts_[index];
  switch (part.kind) {
    case Kind::Literal:
      return part.literal;
    case Kind::Reference:
      return resolve_or_null(part.reference, scope);
    case Kind::Not:
      return !is_truthy(value_of(part.left, scope));
    case Kind::And:
      return is_truthy(value_of(part.left, scope)) && is_truthy(value_of(part.right, scope));
    case Kind::Or:
      return is_truthy(value_of(part.left, scope)) || is_truthy(value_of(part.right, scope));
    default:
      break;
  }
  json::value const left = value_of(part.left, scope);
  json::value const right = value_of(part.right, scope);
  if (part.kind == Kind::Equal) return equals(left, right);
  if (part.kind == Kind::Unequal) return !equals(left, right);
  if (part.kind == Kind::Contains) return holds_within(left, right);
  auto const order = order_of(left, right);
  if (!order) return false;
  return part.kind == Kind::Less ? *order < 0 : *order <= 0;
}

bool Condition::holds(Scope const& scope) const {
  return is_truthy(value_of(whole_, scope));
}

}  // namespace aether::jobs
