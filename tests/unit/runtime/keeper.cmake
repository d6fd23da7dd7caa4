# Formats that daemon and keeper share.
linnet_test(runtime_formats_test LABEL unit
  SOURCES log_format_test.cc plan_test.cc
    ${PROJECT_SOURCE_DIR}/runtime/keeper/log_format.cc
    ${PROJECT_SOURCE_DIR}/runtime/src/keeper/failure.cc
    ${PROJECT_SOURCE_DIR}/runtime/src/plan/reader.cc
    ${PROJECT_SOURCE_DIR}/runtime/src/plan/writer.cc
  LINK linnet::base)
target_include_directories(runtime_formats_test PRIVATE ${PROJECT_SOURCE_DIR}/runtime/src ${PROJECT_SOURCE_DIR}/runtime/keeper)
