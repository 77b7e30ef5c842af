# SPDX-License-Identifier: Apache-2.0
"""Just enough reading of C++ for the style check: bare code, functions, nesting."""
import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r'''//[^\n]*|/\*.*?\*/|R"(?P<tag>[^\s()\\]{0,16})\(.*?\)(?P=tag)"'''
    r'''|"(?:\\.|[^"\\\n])*"|(?<![0-9a-zA-Z_])'(?:\\.|[^'\\\n])+\'''',
    re.DOTALL)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
_CONTROL = re.compile(r"(?:^|[;{}\s)])(?:if|for|while|switch|do|try|catch|else)\b")


def _blank(match):
    """The same lines and columns, without the words."""
    text = match.group(0)
    if text.startswith(("/", "#")):
        return re.sub(r"[^\n]", " ", text)
    return '"' + re.sub(r"[^\n]", " ", text[1:-1]) + '"'


def without_comments(text):
    """Comments are blanked, strings stay: for #include lines."""
    return _TOKEN.sub(lambda m: _blank(m) if m.group(0).startswith("/") else m.group(0), text)


def code_only(text):
    """Comments, the contents of strings and preprocessor directives are blanked."""
    return _DIRECTIVE.sub(_blank, _TOKEN.sub(_blank, text))


@dataclass
class Function:
    name: str
    line: int
    length: int
    nesting: int


def _without_groups(head, opening, closing):
    """Removes balanced (...) or <...> and what they hold."""
    kept, depth = [], 0
    for char in head:
        if char == opening:
            depth += 1
        elif char == closing and depth > 0:
            depth -= 1
        elif depth == 0:
            kept.append(char)
    return "".join(kept)


def _kind_of_block(head):
    """What a { opens outside of any function: 'scope', 'function' or 'initialiser'."""
    head = re.sub(r"\[\[[^\]]*\]\]", " ", head)
    head = re.sub(r"\btemplate\s*<[^{]*?>\s*(?=[a-zA-Z\[~])", " ", head.strip())
    head = re.sub(r"\boperator\s*[^\w\s(]+", "operator_", head)
    plain = _without_groups(head, "(", ")")
    if re.match(r"(?:inline\s+)?namespace\b", plain) or plain.strip().startswith("extern"):
        return "scope"
    if re.search(r"\[[^\]]*\]\s*(?:mutable|noexcept|->.*|\s)*$", plain):
        return "function"  # A lambda.
    if re.search(r"\b(?:class|struct|union|enum)\b", plain) and not head.rstrip().endswith(")"):
        return "scope"
    if "(" in head and not re.search(r"(?<![=!<>])=(?!=)", plain):
        # A member initialiser a_{x} has no parenthesis of its own at its end, a body has.
        last = re.split(r"[,:]", plain)[-1]
        if ":" in plain.replace("::", "") and re.search(r"\w\s*$", last) and \
                not re.search(r"[)}]\s*$", head.rstrip()):
            return "initialiser"
        return "function"
    return "initialiser"


def _name_of(head):
    head = " ".join(head.split())
    match = re.search(r"\b(?:CORO_)?TEST(?:_F|_P)?\s*\(\s*(\w+)\s*,\s*(\w+)", head)
    if match:
        return f"{match.group(1)}.{match.group(2)}"
    match = re.search(r"([~\w]+|operator\s*\S+?)\s*\(", head)
    for candidate in re.finditer(r"([~\w]+|operator\s*[^\w\s(]+)\s*\(", head):
        if candidate.group(1) not in ("__attribute__", "decltype", "noexcept", "alignas"):
            match = candidate
            break
    return match.group(1) if match else "lambda"


def functions(text):
    """Every function of a C++ text with its length in lines, from its name to its closing brace."""
    code = code_only(text)
    found, stack = [], []  # stack: [kind, name, first line, is control, deepest nesting]
    head, head_line, line, parens = "", 1, 1, 0
    for char in code:
        if char == "\n":
            line += 1
        if not head.strip() and not char.isspace():
            head_line = line
        if char in "([":
            parens += 1
        elif char in ")]":
            parens -= 1
        if char == "{":
            inside = next((entry for entry in stack if entry[0] == "function"), None)
            if inside:
                control = bool(_CONTROL.search(" " + head))
                stack.append(["inner", "", line, control, 0])
                inside[4] = max(inside[4], sum(1 for entry in stack if entry[3]))
                head = ""
            else:
                kind = "initialiser" if parens > 0 else _kind_of_block(head)
                stack.append([kind, _name_of(head), head_line, False, 0])
                if kind != "initialiser":
                    head = ""
        elif char == "}" and stack:
            kind, name, first, _, deepest = stack.pop()
            if kind == "function":
                found.append(Function(name, first, line - first + 1, deepest))
            if kind != "initialiser":
                head = ""
        elif char == ";" and parens <= 0:
            head = ""
        else:
            head += char
    return found
