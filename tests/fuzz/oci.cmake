# What registries and archives send.
set(oci_src ${PROJECT_SOURCE_DIR}/oci/src)
linnet_fuzz_target(image_manifest SOURCES fuzz_image_manifest.cc LINK linnet::oci MAX_LENGTH 16384)
linnet_fuzz_target(image_config SOURCES fuzz_image_config.cc LINK linnet::oci MAX_LENGTH 16384)
linnet_fuzz_target(www_authenticate SOURCES fuzz_www_authenticate.cc LINK linnet::oci INCLUDE ${oci_src} MAX_LENGTH 4096)
linnet_fuzz_target(hosts_toml SOURCES fuzz_hosts_toml.cc LINK linnet::oci INCLUDE ${oci_src} MAX_LENGTH 8192)
linnet_fuzz_target(tar_layer SOURCES fuzz_tar_layer.cc LINK linnet::oci INCLUDE ${oci_src} MAX_LENGTH 16384)
linnet_fuzz_target(layer_stream SOURCES fuzz_layer_stream.cc LINK linnet::oci INCLUDE ${oci_src} MAX_LENGTH 16384)
