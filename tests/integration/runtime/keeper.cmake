# Tests of linnet-keeper, driven over its socket.
linnet_test(runtime_keeper_test LABEL integration
  SOURCES keeper_harness.cc keeper_test.cc
    ${PROJECT_SOURCE_DIR}/runtime/src/keeper/failure.cc
    ${PROJECT_SOURCE_DIR}/runtime/src/plan/reader.cc
    ${PROJECT_SOURCE_DIR}/runtime/src/plan/writer.cc
  LINK linnet::base)
target_include_directories(runtime_keeper_test PRIVATE ${PROJECT_SOURCE_DIR}/runtime/src)
add_dependencies(runtime_keeper_test linnet-keeper)
