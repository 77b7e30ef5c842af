// SPDX-License-Identifier: Apache-2.0
#include "cli/job_json.h"

#include <fstream>
#include <iostream>
#include <iterator>

#include <boost/json.hpp>

#include "base/json.h"
#include "config/yaml_json.h"

namespace aether::cli {

Result<boost::json::value> read_document(std::string const& file) {
  std::string text;
  if (file == "-") {
    text.assign(std::istreambuf_iterator<char>(std::cin), {});
  } else {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) return fail(system_error("open", file));
    text.assign(std::istreambuf_iterator<char>(stream), {});
  }
  std::size_t const first = text.find_first_not_of(" \t\r\n");
  bool const is_json = first != std::string::npos && (text[first] == '{' || text[first] == '[');
  if (is_json) {
    // YAML's flow style begins in the same way, and has fewer quotes.
    if (auto value = parse_json(text, file)) return value;
  }
  TRY_ASSIGN(std::string const json, config::yaml_to_json(text, file));
  return parse_json(json, file);
}

boost::json::value json_or_text(std::string const& text) {
  auto value = parse_json(text, "the value");
  return value ? *std::move(value) : boost::json::value(text);
}

}  // namespace aether::cli
