# What clients of exec, attach and port-forward send.
if(TARGET linnet_cri)
  foreach(name spdy_frames websocket_frames http_upgrade)
    linnet_fuzz_target(${name} SOURCES fuzz_${name}.cc LINK linnet::cri MAX_LENGTH 65536
      INCLUDE ${PROJECT_SOURCE_DIR}/cri-server/src)
  endforeach()
endif()
