# Tests of Runtime, with its keepers.
linnet_test(runtime_kernel_test LABEL integration TIMEOUT 300
  SOURCES runtime_fixture.cc runtime_test.cc
  LINK linnet::runtime linnet::testing)
target_include_directories(runtime_kernel_test PRIVATE ${PROJECT_SOURCE_DIR}/runtime/src)
add_dependencies(runtime_kernel_test linnet-keeper)

linnet_test(runtime_bench LABEL bench SERIAL TIMEOUT 300
  SOURCES runtime_fixture.cc runtime_bench.cc
  LINK linnet::runtime linnet::testing)
target_include_directories(runtime_bench PRIVATE ${PROJECT_SOURCE_DIR}/runtime/src)
add_dependencies(runtime_bench linnet-keeper)
