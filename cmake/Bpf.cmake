# SPDX-License-Identifier: Apache-2.0
# aether_bpf_programs(TARGET): compiles bpf/*.bpf.c for the kernel's own machine and embeds the objects in the room
# TARGET (src/steer/bpf_objects.cc). Clang compiles them whatever compiles the rest; libbpf loads them.
option(AETHER_BPF "Programs for the kernel: steer: bpf, route: direct over sk_lookup, XDP counters" ON)

if(AETHER_BPF)
  find_path(LIBBPF_INCLUDE_DIR bpf/libbpf.h)
  find_library(LIBBPF_LIBRARY bpf)
  if(CMAKE_C_COMPILER_ID MATCHES "Clang")
    set(AETHER_BPF_CLANG "${CMAKE_C_COMPILER}")
  else()
    find_program(AETHER_BPF_CLANG NAMES clang-19 clang-20 clang-18 clang)
  endif()
  if(NOT LIBBPF_INCLUDE_DIR OR NOT LIBBPF_LIBRARY OR NOT AETHER_BPF_CLANG)
    message(FATAL_ERROR "The programs of bpf/ need clang and libbpf-dev (scripts/install-deps --run installs both). "
                        "-DAETHER_BPF=OFF builds an Aether that refuses what needs them.")
  endif()
endif()

function(aether_bpf_programs target)
  if(NOT AETHER_BPF)
    return()
  endif()
  set(objects)
  file(GLOB headers CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/src/steer/bpf_*_maps.h")
  foreach(name IN ITEMS steer xdp_ports)
    set(object "${CMAKE_BINARY_DIR}/bpf/${name}.bpf.o")
    # -g: the types of the maps are in the object's BTF. mcpu=v3: atomic operations with a result (Linux 5.12).
    add_custom_command(
      OUTPUT "${object}"
      COMMAND ${CMAKE_COMMAND} -E make_directory "${CMAKE_BINARY_DIR}/bpf"
      COMMAND "${AETHER_BPF_CLANG}" -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror
              "-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=" -I "${CMAKE_SOURCE_DIR}/src" -I "${LIBBPF_INCLUDE_DIR}"
              -idirafter "/usr/include/${CMAKE_LIBRARY_ARCHITECTURE}"
              -c "${CMAKE_SOURCE_DIR}/bpf/${name}.bpf.c" -o "${object}"
      DEPENDS "${CMAKE_SOURCE_DIR}/bpf/${name}.bpf.c" ${headers}
      COMMENT "bpf/${name}.bpf.c"
      VERBATIM)
    list(APPEND objects "${object}")
  endforeach()
  set_source_files_properties("${CMAKE_CURRENT_SOURCE_DIR}/bpf_objects.cc" PROPERTIES
    OBJECT_DEPENDS "${objects}"
    COMPILE_DEFINITIONS "AETHER_BPF_FOLDER=\"${CMAKE_BINARY_DIR}/bpf/\""
    SKIP_UNITY_BUILD_INCLUSION ON)
  target_compile_definitions(${target} PRIVATE AETHER_WITH_BPF=1)
  target_include_directories(${target} SYSTEM PRIVATE "${LIBBPF_INCLUDE_DIR}")
  target_link_libraries(${target} PRIVATE "${LIBBPF_LIBRARY}")
endfunction()
