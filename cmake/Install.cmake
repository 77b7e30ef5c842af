# SPDX-License-Identifier: Apache-2.0
# cmake --install FOLDER --prefix /usr/local: the program under its three names, the libraries that it gives to handlers
# where it looks for them (functions/handler_hooks.h), and the rules for Prometheus.
include(GNUInstallDirs)
install(TARGETS aether RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT aether)
foreach(name IN ITEMS aeterna aetheris)
  install(CODE "file(CREATE_LINK aether \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/${name}\" SYMBOLIC)"
          COMPONENT aether)
endforeach()
install(DIRECTORY "${CMAKE_SOURCE_DIR}/sdk/python" "${CMAKE_SOURCE_DIR}/sdk/node"
        DESTINATION "${CMAKE_INSTALL_DATADIR}/aether/sdk" COMPONENT aether
        PATTERN tests EXCLUDE
        PATTERN build_wheel.py EXCLUDE
        PATTERN __pycache__ EXCLUDE
        PATTERN "*.pyc" EXCLUDE)
install(DIRECTORY "${CMAKE_SOURCE_DIR}/deploy/prometheus" DESTINATION "${CMAKE_INSTALL_DATADIR}/aether"
        COMPONENT aether PATTERN "*_test.yaml" EXCLUDE)
