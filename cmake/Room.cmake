# SPDX-License-Identifier: Apache-2.0
# aether_room(NAME [ROOMS lower rooms...] [LIBRARIES libraries...] [PROGRAM name] [TOGETHER pattern])
#
# Each test runs in a process of its own, but for those whose names match the pattern of TOGETHER:
# they share what is slow to start.
#
# A room is a folder, a library and a namespace. Files are found by their ending:
#   *.cc        the room itself
#   *_test.cc   its unit tests, one binary <room>_test
#   *_bench.cc  its micro-benchmarks, one binary <room>_bench
#   *_fuzz.cc   one libFuzzer target each, <file name>
#   main.cc     with PROGRAM: the executable of that name, in bin/ of the build folder
include(GoogleTest)

function(aether_room name)
  cmake_parse_arguments(ROOM "" "PROGRAM;TOGETHER" "ROOMS;LIBRARIES" ${ARGN})
  file(GLOB_RECURSE all CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cc")
  set(sources ${all})
  list(FILTER sources EXCLUDE REGEX "(_(test|bench|fuzz)|/main)\\.cc$")
  set(tests ${all})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  set(benches ${all})
  list(FILTER benches INCLUDE REGEX "_bench\\.cc$")
  set(fuzzers ${all})
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")
  list(TRANSFORM ROOM_ROOMS PREPEND aether_)

  if(sources)
    add_library(aether_${name} STATIC ${sources})
    set(scope PUBLIC)
  else()
    add_library(aether_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(aether_${name} ${scope} "${CMAKE_SOURCE_DIR}/src")
  target_link_libraries(aether_${name} ${scope} ${ROOM_ROOMS} ${ROOM_LIBRARIES})

  if(ROOM_PROGRAM AND EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/main.cc")
    add_executable(${ROOM_PROGRAM} main.cc)
    target_link_libraries(${ROOM_PROGRAM} PRIVATE aether_${name})
    set_target_properties(${ROOM_PROGRAM} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
  endif()
  if(AETHER_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE aether_${name} GTest::gtest GTest::gmock GTest::gtest_main)
    set(apart "*")
    if(ROOM_TOGETHER)
      set(apart "-${ROOM_TOGETHER}")
      add_test(NAME ${name}.together COMMAND ${name}_test --gtest_filter=${ROOM_TOGETHER})
      set_tests_properties(${name}.together PROPERTIES TIMEOUT 300 LABELS "unit;${name}"
                           SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
    endif()
    gtest_discover_tests(${name}_test TEST_FILTER "${apart}" DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                         PROPERTIES TIMEOUT 120 LABELS "unit;${name}")
  endif()
  if(AETHER_BENCHMARKS AND benches)
    add_executable(${name}_bench ${benches})
    target_link_libraries(${name}_bench PRIVATE aether_${name} benchmark::benchmark_main)
  endif()
  if(AETHER_FUZZERS)
    foreach(source IN LISTS fuzzers)
      get_filename_component(target "${source}" NAME_WE)
      add_executable(${target} ${source})
      target_link_libraries(${target} PRIVATE aether_${name})
      target_link_options(${target} PRIVATE -fsanitize=fuzzer)
      set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/fuzz")
    endforeach()
  endif()
endfunction()
