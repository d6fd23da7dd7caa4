# Texts that the network reads: configurations, results of plugins, records of attachments.
foreach(name cni_conf cni_result cni_cache)
  linnet_fuzz_target(${name} SOURCES fuzz_${name}.cc LINK linnet::network
    INCLUDE ${PROJECT_SOURCE_DIR}/network/src MAX_LENGTH 16384)
endforeach()
