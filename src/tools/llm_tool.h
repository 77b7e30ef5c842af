// SPDX-License-Identifier: Apache-2.0
// The tool `llm`: one answer of a language model, by OpenAI's chat completions, or by the model
// that is built in.
//
// args {model, prompt | messages [{role, content, tool_calls, tool_call_id}], system,
//       tools [{name, description, parameters}], temperature, max_tokens, stop [...], seed,
//       json = false, stream = true if anybody listens}
// result {content, tool_calls [{id, name, arguments}], finish_reason, model,
//         usage {prompt_tokens, completion_tokens, total_tokens}}
//
// An answer goes back into `messages` as {role: assistant, content, tool_calls}, as it came; what a
// tool said follows as {role: tool, tool_call_id, content}. OpenAI's own forms of tools and
// tool_calls ({type: function, function: {...}}) are taken too.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "tools/tool.h"

namespace aether::tools {

/// The name of the model that is always there, offline: see docs/tools.md for what it does.
inline constexpr std::string_view kBuiltinModel = "builtin";

struct ModelSpec {
  std::string name;      ///< How args.model names it.
  std::string base_url;  ///< "https://api.openai.com/v1"; empty: another name of the built-in one.
  std::string model;     ///< How its server names it.
  std::string api_key;   ///< Sent as a bearer token; never logged, recorded or told. May be empty.
  /// Money for a million tokens.
  double input_price = 0;
  double output_price = 0;
};
struct LlmOptions {
  std::vector<ModelSpec> models;
  std::string default_model = std::string(kBuiltinModel);
  /// The operator's choice: Read if it is accepted that an answer may be paid for twice after a
  /// crash.
  Policy policy = Policy::Once;
  std::string ca_file;  ///< As HttpOptions.
};

/// ConfigInvalid names the model that is wrong.
[[nodiscard]] Result<std::unique_ptr<Tool>> make_llm_tool(LlmOptions options);

}  // namespace aether::tools
