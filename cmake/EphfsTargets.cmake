# SPDX-License-Identifier: Apache-2.0
# How a room becomes a target: one static library a folder, whose link line is its list of dependencies.

find_program(EPHFS_CCACHE ccache)
if(EPHFS_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${EPHFS_CCACHE})
  # Precompiled headers carry time stamps; ccache needs to be told that they do not matter.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${EPHFS_CCACHE})
endif()

add_library(ephfs_options INTERFACE)
target_include_directories(ephfs_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_definitions(ephfs_options INTERFACE EPHFS_VERSION="${PROJECT_VERSION}")
target_compile_options(ephfs_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wcast-align
  -Wimplicit-fallthrough -fno-omit-frame-pointer
  $<$<BOOL:${EPHFS_WERROR}>:-Werror>
  )
# GCC 12 takes the allocator of Asio's coroutine frames for two different ones, and, optimizing, sees overflows and
# uninitialized bytes inside its own std::string and std::optional. The clang preset keeps looking for real ones.
target_compile_options(ephfs_options INTERFACE
  $<$<CXX_COMPILER_ID:GNU>:-Wno-mismatched-new-delete -Wno-stringop-overflow -Wno-restrict
    -Wno-maybe-uninitialized -Wno-array-bounds -Wno-stringop-overread>)
# What is installed keeps its stack protector and fortified libc calls: it parses what strangers send.
set(ephfs_hardening $<$<CONFIG:Release>:-D_FORTIFY_SOURCE=2 -fstack-protector-strong>)
# Functions are found when a program starts: one that is looked up at its first call has the vector registers, and with them
# what was copied last, written to the stack.
target_link_options(ephfs_options INTERFACE -Wl,-z,relro,-z,now)
if(EPHFS_SANITIZE)
  target_compile_options(ephfs_options INTERFACE -fsanitize=${EPHFS_SANITIZE})
  target_link_options(ephfs_options INTERFACE -fsanitize=${EPHFS_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND EPHFS_SANITIZE MATCHES "undefined")
    # clang 14 mistakes coroutine frames for functions of another type.
    target_compile_options(ephfs_options INTERFACE -fno-sanitize=function)
  endif()
endif()

# ephfs_room(NAME SOURCES file... LINKS target...) makes the static library ephfs_NAME of this folder. The precompiled
# headers are compiled with the first room, and shared: it takes GCC 6 s, so all are given the same definitions.
function(ephfs_room name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_library(ephfs_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(ephfs_${name} PUBLIC ephfs_options ${ARG_LINKS})
  target_compile_options(ephfs_${name} PRIVATE ${ephfs_hardening})
  if(name STREQUAL core)
    target_precompile_headers(ephfs_core PRIVATE pch.hpp)
  else()
    target_precompile_headers(ephfs_${name} REUSE_FROM ephfs_core)
  endif()
endfunction()

# ephfs_protobuf(TARGET file.proto...) compiles messages into the build tree; included as "ROOM/file.pb.h".
function(ephfs_protobuf target)
  foreach(proto IN LISTS ARGN)
    file(RELATIVE_PATH rel ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${proto})
    string(REGEX REPLACE "\\.proto$" "" stem ${rel})
    set(out ${CMAKE_BINARY_DIR}/generated/${stem}.pb)
    add_custom_command(OUTPUT ${out}.cc ${out}.h
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/generated
      COMMAND protobuf::protoc --cpp_out=${CMAKE_BINARY_DIR}/generated -I ${CMAKE_SOURCE_DIR} ${rel}
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} DEPENDS ${proto} VERBATIM)
    # Generated code is not held to our warnings.
    set_source_files_properties(${out}.cc PROPERTIES COMPILE_OPTIONS "-w" SKIP_PRECOMPILE_HEADERS ON)
    target_sources(${target} PRIVATE ${out}.cc ${out}.h)
  endforeach()
  target_include_directories(${target} SYSTEM PUBLIC ${CMAKE_BINARY_DIR}/generated)
endfunction()
