# SPDX-License-Identifier: Apache-2.0
# aether_python_test(NAME FILE [SERIAL] [TIMEOUT seconds] [LABELS labels...] [ARGUMENTS arguments...])
#
# Runs FILE (below the caller's folder) under pytest with the system's Python. The test finds the program
# in AETHER_BIN (with aeterna and aetheris beside it) and the SDK on PYTHONPATH. SERIAL keeps it alone on
# the machine: for tests that measure or put load on it. Skips inside are written to junit/NAME.xml, where
# tests/check-skips reads them.
function(aether_python_test name file)
  cmake_parse_arguments(PY "SERIAL" "TIMEOUT" "LABELS;ARGUMENTS" ${ARGN})
  if(NOT PY_TIMEOUT)
    set(PY_TIMEOUT 300)
  endif()
  set(binary "${CMAKE_BINARY_DIR}/bin/aether")
  if(DEFINED ENV{AETHER_BIN})
    set(binary "$ENV{AETHER_BIN}")
  endif()
  add_test(NAME ${name}
           COMMAND /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider
                   "--junitxml=${CMAKE_BINARY_DIR}/junit/${name}.xml"
                   "${CMAKE_CURRENT_SOURCE_DIR}/${file}" ${PY_ARGUMENTS})
  set_tests_properties(${name} PROPERTIES
    TIMEOUT ${PY_TIMEOUT} LABELS "${PY_LABELS}"
    ENVIRONMENT "AETHER_BIN=${binary};AETHER_BUILD=${CMAKE_BINARY_DIR};AETHER_SOURCE=${CMAKE_SOURCE_DIR};AETHER_SANITIZE=${AETHER_SANITIZE};PYTHONPATH=${CMAKE_SOURCE_DIR}/sdk/python;PYTHONDONTWRITEBYTECODE=1")
  if(PY_SERIAL)
    set_tests_properties(${name} PROPERTIES RUN_SERIAL ON)
  endif()
endfunction()
