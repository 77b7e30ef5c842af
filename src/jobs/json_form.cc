// SPDX-License-Identifier: Apache-2.0
#include "jobs/json_form.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>

#include "jobs/expand.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

constexpr std::size_t kFormMistakesMax = 20;
constexpr int kFormDepthMax = 30;
constexpr std::size_t kFormMembersMax = 100;

bool all_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

/// YYYY-MM-DD with a month and a day that can be.
bool is_date(std::string_view text) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') return false;
  if (!all_digits(text.substr(0, 4)) || !all_digits(text.substr(5, 2)) ||
      !all_digits(text.substr(8, 2)))
    return false;
  auto const two = [&](std::size_t at) { return (text[at] - '0') * 10 + (text[at + 1] - '0'); };
  return two(5) >= 1 && two(5) <= 12 && two(8) >= 1 && two(8) <= 31;
}

/// RFC 3339: a date, T, a time, and Z or an offset.
bool is_date_time(std::string_view text) {
  if (text.size() < 20 || !is_date(text.substr(0, 10)) || (text[10] != 'T' && text[10] != 't'))
    return false;
  auto const time = text.substr(11);
  bool const clock = all_digits(time.substr(0, 2)) && time[2] == ':' &&
                     all_digits(time.substr(3, 2)) && time[5] == ':' &&
                     all_digits(time.substr(6, 2));
  auto rest = time.substr(8);
  if (!clock) return false;
  if (rest.starts_with('.')) {
    auto const end = rest.find_first_not_of("0123456789", 1);
    if (end == 1 || end == std::string_view::npos) return false;
    rest.remove_prefix(end);
  }
  if (rest == "Z" || rest == "z") return true;
  return rest.size() == 6 && (rest[0] == '+' || rest[0] == '-') && all_digits(rest.substr(1, 2)) &&
         rest[3] == ':' && all_digits(rest.substr(4, 2));
}

bool fits_format(std::string_view format, std::string_view text) {
  if (format == "date") return is_date(text);
  if (format == "date-time") return is_date_time(text);
  if (format == "email") {
    auto const at = text.find('@');
    return at != std::string_view::npos && at > 0 && at + 1 < text.size() &&
           text.find('@', at + 1) == std::string_view::npos &&
           text.find_first_of(" \t\r\n") == std::string_view::npos;
  }
  if (format == "uri") {
    auto const colon = text.find(':');
    return colon != std::string_view::npos && colon > 0 && colon + 1 < text.size() &&
           text.find_first_of(" \t\r\n") == std::string_view::npos;
  }
  return true;
}

bool is_whole(json::value const& value) {
  if (value.is_int64() || value.is_uint64()) return true;
  if (!value.is_double()) return false;
  double const number = value.get_double();
  constexpr double exact = 9007199254740992.0;  // 2^53
  return number >= -exact && number <= exact &&
         number == static_cast<double>(static_cast<std::int64_t>(number));
}

bool is_of_type(std::string_view type, json::value const& value) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_bool();
  if (type == "null") return value.is_null();
  if (type == "integer") return is_whole(value);
  if (type == "number") return value.is_number();
  return true;
}

std::string_view view_of(json::value const& value) {
  auto const& text = value.get_string();
  return {text.data(), text.size()};
}

std::size_t letters_in(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

class FormChecker {
 public:
  std::vector<std::string> run(json::value const& schema, json::value const& value) {
    check(schema, value, "", 0);
    return std::move(mistakes_);
  }

 private:
  void mistake(std::string const& pointer, std::string_view message) {
    if (mistakes_.size() < kFormMistakesMax)
      mistakes_.push_back(fmt::format("{}: {}", pointer.empty() ? "/" : pointer, message));
  }

  void check(json::value const& schema, json::value const& value, std::string const& pointer,
             int depth) {
    if (schema.is_bool() && !schema.get_bool()) mistake(pointer, "nothing may stand here");
    auto const* rules = schema.if_object();
    if (rules == nullptr || depth > kFormDepthMax) return;
    if (!check_type(*rules, value, pointer)) return;
    check_choices(*rules, value, pointer);
    if (value.is_string()) check_text(*rules, view_of(value), pointer);
    if (value.is_number()) check_number(*rules, value.to_number<double>(), pointer);
    if (value.is_array()) check_items(*rules, value.get_array(), pointer, depth);
    if (value.is_object()) check_members(*rules, value.get_object(), pointer, depth);
  }

  bool check_type(json::object const& rules, json::value const& value, std::string const& pointer) {
    auto const* type = rules.if_contains("type");
    if (type == nullptr) return true;
    bool fits = !type->is_string() && !type->is_array();
    std::string wanted = text_of_value(*type);
    if (type->is_string()) fits = is_of_type(view_of(*type), value);
    if (auto const* types = type->if_array()) {
      fits = std::ranges::any_of(*types, [&](json::value const& one) {
        return one.is_string() && is_of_type(view_of(one), value);
      });
    }
    if (!fits) mistake(pointer, fmt::format("must be of type {}", wanted));
    return fits;
  }

  void check_choices(json::object const& rules, json::value const& value,
                     std::string const& pointer) {
    std::string const text = canonical_json(value);
    auto const* one = rules.if_contains("const");
    if (one != nullptr && canonical_json(*one) != text)
      mistake(pointer, "must be " + canonical_json(*one));
    std::vector<std::string> choices;
    if (auto const* list = rules.if_contains("enum"); list != nullptr && list->is_array())
      for (json::value const& choice : list->get_array()) choices.push_back(canonical_json(choice));
    for (std::string_view const name : {"oneOf", "anyOf"}) add_constants(rules, name, choices);
    if (choices.empty() || std::ranges::find(choices, text) != choices.end()) return;
    std::string all;
    for (std::string const& choice : choices) all += (all.empty() ? "" : ", ") + choice;
    mistake(pointer, "must be one of " + all);
  }
  static void add_constants(json::object const& rules, std::string_view name,
                            std::vector<std::string>& choices) {
    auto const* list = rules.if_contains(name);
    if (list == nullptr || !list->is_array()) return;
    for (json::value const& choice : list->get_array()) {
      auto const* object = choice.if_object();
      auto const* constant = object == nullptr ? nullptr : object->if_contains("const");
      if (constant != nullptr) choices.push_back(canonical_json(*constant));
    }
  }

  template <class Compare>
  void check_bound(json::object const& rules, std::string_view name, double measured,
                   std::string const& pointer, std::string_view what, Compare fits) {
    auto const* bound = rules.if_contains(name);
    if (bound == nullptr || !bound->is_number()) return;
    if (!fits(measured, bound->to_number<double>()))
      mistake(pointer, fmt::format("{} {}", what, canonical_json(*bound)));
  }

  void check_text(json::object const& rules, std::string_view text, std::string const& pointer) {
    auto const letters = static_cast<double>(letters_in(text));
    check_bound(rules, "minLength", letters, pointer, "the least number of letters is",
                std::greater_equal<>());
    check_bound(rules, "maxLength", letters, pointer, "the greatest number of letters is",
                std::less_equal<>());
    auto const* format = rules.if_contains("format");
    if (format != nullptr && format->is_string() && !fits_format(view_of(*format), text))
      mistake(pointer, fmt::format("must be of format {}", view_of(*format)));
  }

  void check_number(json::object const& rules, double number, std::string const& pointer) {
    check_bound(rules, "minimum", number, pointer, "must be at least", std::greater_equal<>());
    check_bound(rules, "maximum", number, pointer, "must be at most", std::less_equal<>());
    check_bound(rules, "exclusiveMinimum", number, pointer, "must be above", std::greater<>());
    check_bound(rules, "exclusiveMaximum", number, pointer, "must be below", std::less<>());
  }

  void check_items(json::object const& rules, json::array const& items, std::string const& pointer,
                   int depth) {
    auto const count = static_cast<double>(items.size());
    check_bound(rules, "minItems", count, pointer, "the least number of items is",
                std::greater_equal<>());
    check_bound(rules, "maxItems", count, pointer, "the greatest number of items is",
                std::less_equal<>());
    auto const* schema = rules.if_contains("items");
    if (schema == nullptr) return;
    for (std::size_t i = 0; i < items.size(); ++i)
      check(*schema, items[i], pointer + "/" + std::to_string(i), depth + 1);
  }

  void check_members(json::object const& rules, json::object const& object,
                     std::string const& pointer, int depth) {
    if (auto const* required = rules.if_contains("required");
        required != nullptr && required->is_array()) {
      for (json::value const& name : required->get_array())
        if (name.is_string() && !object.contains(name.get_string()))
          mistake(pointer, fmt::format("\"{}\" is missing", view_of(name)));
    }
    auto const* properties = rules.if_contains("properties");
    auto const* known = properties == nullptr ? nullptr : properties->if_object();
    auto const* others = rules.if_contains("additionalProperties");
    for (auto const& member : object) {
      std::string_view const name(member.key().data(), member.key().size());
      auto const* schema = known == nullptr ? nullptr : known->if_contains(name);
      std::string const place = pointer + "/" + pointer_token(name);
      if (schema != nullptr)
        check(*schema, member.value(), place, depth + 1);
      else if (others != nullptr && others->is_bool() && !others->get_bool())
        mistake(place, "is not known here");
      else if (others != nullptr)
        check(*others, member.value(), place, depth + 1);
    }
  }

  std::vector<std::string> mistakes_;
};

Failure not_a_form(std::string_view where, std::string_view reason) {
  return fail(ErrorCode::RequestInvalid,
              fmt::format("the form cannot be shown: {}: {}", where, reason));
}

Status check_form_member(std::string_view name, json::value const& schema) {
  constexpr std::array<std::string_view, 5> types{"string", "number", "integer", "boolean",
                                                  "array"};
  auto const* rules = schema.if_object();
  if (rules == nullptr) return not_a_form(name, "it must be a schema: {type: string}");
  auto const* type = rules->if_contains("type");
  bool const known = type != nullptr && type->is_string() &&
                     std::ranges::find(types, view_of(*type)) != types.end();
  if (!known)
    return not_a_form(name,
                      "its type must be string, number, integer, boolean, or array of choices");
  if (view_of(*type) != "array") return {};
  auto const* items = rules->if_contains("items");
  auto const* choices = items == nullptr ? nullptr : items->if_object();
  bool const chosen =
      choices != nullptr &&
      (choices->contains("enum") || choices->contains("anyOf") || choices->contains("oneOf"));
  return chosen ? Status() : Status(not_a_form(name, "an array needs items with an enum"));
}

}  // namespace

std::vector<std::string> form_mistakes(json::value const& schema, json::value const& value) {
  return FormChecker().run(schema, value);
}

Status check_form(json::value const& schema) {
  auto const* rules = schema.if_object();
  auto const* type = rules == nullptr ? nullptr : rules->if_contains("type");
  if (type == nullptr || !type->is_string() || view_of(*type) != "object")
    return not_a_form("/", "it must be {type: object, properties: {...}}");
  auto const* properties = rules->if_contains("properties");
  if (properties == nullptr) return {};
  if (!properties->is_object() || properties->get_object().size() > kFormMembersMax)
    return not_a_form("/properties", "it must be an object of at most 100 members");
  for (auto const& member : properties->get_object())
    TRY(check_form_member(std::string_view(member.key().data(), member.key().size()),
                          member.value()));
  return {};
}

json::value with_defaults(json::value const& schema, json::value value) {
  auto const* rules = schema.if_object();
  auto const* properties = rules == nullptr ? nullptr : rules->if_contains("properties");
  if (properties == nullptr || !properties->is_object()) return value;
  if (value.is_null()) value = json::object();
  auto* object = value.if_object();
  if (object == nullptr) return value;
  for (auto const& member : properties->get_object()) {
    auto const* property = member.value().if_object();
    auto const* otherwise = property == nullptr ? nullptr : property->if_contains("default");
    if (otherwise != nullptr && !object->contains(member.key()))
      (*object)[member.key()] = *otherwise;
  }
  return value;
}

}  // namespace aether::jobs
