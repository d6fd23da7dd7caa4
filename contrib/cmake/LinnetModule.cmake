# linnet_module(<name> SOURCES a.cc … [HEADERS include/linnet/<name>/a.h …] [PUBLIC targets…] [PRIVATE targets…])
#
# Makes the static library linnet_<name> (alias linnet::<name>) of the current folder. Public headers live in
# include/, private ones in src/. Including a header of a module that is not linked is a compile error; a cycle is a
# configure error; every public header is compiled alone by the target all_verify_interface_header_sets.
include_guard()
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

add_library(linnet_warnings INTERFACE)
target_compile_options(linnet_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Woverloaded-virtual -Wimplicit-fallthrough
  # Designated initialisers leave the rest at their defaults on purpose.
  -Wno-missing-field-initializers
  # LN_TRY is a statement expression on purpose (see base/result.h).
  $<$<CXX_COMPILER_ID:Clang>:-Wno-gnu-statement-expression>)
if(LINNET_WERROR)
  target_compile_options(linnet_warnings INTERFACE -Werror)
endif()

function(linnet_module name)
  cmake_parse_arguments(arg "" "" "SOURCES;HEADERS;PUBLIC;PRIVATE" ${ARGN})
  set(target linnet_${name})
  add_library(${target} STATIC ${arg_SOURCES})
  add_library(linnet::${name} ALIAS ${target})
  target_sources(${target} PUBLIC FILE_SET HEADERS
    BASE_DIRS ${CMAKE_CURRENT_SOURCE_DIR}/include FILES ${arg_HEADERS})
  if(IS_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/src)
    target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/src)
  endif()
  target_link_libraries(${target} PUBLIC ${arg_PUBLIC} PRIVATE linnet_warnings ${arg_PRIVATE})
endfunction()

# linnet_program(<name> SOURCES … LINK …): an executable in build/<preset>/bin.
function(linnet_program name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE linnet_warnings ${arg_LINK})
endfunction()

# linnet_test(<name> LABEL unit|integration|crash|fault|… SOURCES … LINK … [TIMEOUT s] [SERIAL])
# One GoogleTest executable, one ctest entry per executable (start-up of a test process costs more than most tests).
# All but unit tests run in namespaces and cgroups of their own (contrib/lib/isolated), as root.
function(linnet_test name)
  cmake_parse_arguments(arg "SERIAL" "LABEL;TIMEOUT" "SOURCES;LINK" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${name} ${arg_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE linnet_warnings GTest::gmock GTest::gtest_main ${arg_LINK})
  if(arg_LABEL STREQUAL unit)
    add_test(NAME ${arg_LABEL}.${name} COMMAND ${name})
  else()
    add_test(NAME ${arg_LABEL}.${name} COMMAND ${CMAKE_SOURCE_DIR}/contrib/lib/isolated $<TARGET_FILE:${name}>)
  endif()
  set_tests_properties(${arg_LABEL}.${name} PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT}
    ENVIRONMENT "LINNET_BIN_DIR=${CMAKE_BINARY_DIR}/bin;LINNET_SOURCE_DIR=${CMAKE_SOURCE_DIR}")
  if(arg_SERIAL)
    set_tests_properties(${arg_LABEL}.${name} PROPERTIES RUN_SERIAL TRUE)
  endif()
endfunction()
