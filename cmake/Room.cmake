# SPDX-License-Identifier: Apache-2.0
# aether_room(NAME [ROOMS lower rooms...] [LIBRARIES libraries...])
#
# A room is a folder, a library and a namespace. Files are found by their ending:
#   *.cc        the room itself
#   *_test.cc   its unit tests, one binary <room>_test
#   *_bench.cc  its micro-benchmarks, one binary <room>_bench
#   *_fuzz.cc   one libFuzzer target each, <file name>
include(GoogleTest)

function(aether_room name)
  cmake_parse_arguments(ROOM "" "" "ROOMS;LIBRARIES" ${ARGN})
  file(GLOB_RECURSE all CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cc")
  set(sources ${all})
  list(FILTER sources EXCLUDE REGEX "_(test|bench|fuzz)\\.cc$")
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

  if(AETHER_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE aether_${name} GTest::gtest GTest::gmock GTest::gtest_main)
    gtest_discover_tests(${name}_test DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                         PROPERTIES TIMEOUT 300 LABELS "unit;${name}")
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
      set_property(GLOBAL APPEND PROPERTY AETHER_FUZZ_TARGETS ${target})
    endforeach()
  endif()
endfunction()
