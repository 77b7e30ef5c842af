# SPDX-License-Identifier: Apache-2.0
# Compiler, warnings, sanitizers, linker, cache: everything that is the same for every room.
set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  message(FATAL_ERROR "GCC ${CMAKE_CXX_COMPILER_VERSION} miscompiles ordinary coroutines "
                      "(see docs/decisions/0001-compilers.md). Use clang++-19, or GCC 13 or newer.")
endif()

option(AETHER_TESTS "Build the tests" ON)
option(AETHER_BENCHMARKS "Build the micro-benchmarks" OFF)
option(AETHER_FUZZERS "Build the libFuzzer targets (clang only)" OFF)
set(AETHER_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them: address,undefined or thread")

find_program(AETHER_CCACHE ccache)
if(AETHER_CCACHE)
  # One cache for every build folder: paths below the source folder are stored relative to it.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${AETHER_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()
find_program(AETHER_MOLD mold)
if(AETHER_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_compile_options(-Wall -Wextra -Wpedantic -Werror=return-type -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  add_compile_options(-Wno-missing-designated-field-initializers -Wno-c23-extensions)
endif()
option(AETHER_WERROR "Treat warnings as errors" OFF)
if(AETHER_WERROR)
  add_compile_options(-Werror)
endif()
if(AETHER_SANITIZE)
  add_compile_options(-fsanitize=${AETHER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
  add_link_options(-fsanitize=${AETHER_SANITIZE})
  if(AETHER_SANITIZE MATCHES "undefined" AND CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    # The vptr check asks with a pipe whether memory can be read: it cries wolf in the tests that use up
    # every descriptor.
    add_compile_options(-fno-sanitize=vptr)
  endif()
endif()
if(AETHER_FUZZERS)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
