# SPDX-License-Identifier: Apache-2.0
# Everything comes from Debian 12; packaging/quickstart installs it.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(Protobuf REQUIRED)
find_package(Boost 1.81 REQUIRED)
pkg_check_modules(sodium REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(sqlite3 REQUIRED IMPORTED_TARGET sqlite3)
pkg_check_modules(yaml_cpp REQUIRED IMPORTED_TARGET yaml-cpp)
pkg_check_modules(fuse3 REQUIRED IMPORTED_TARGET fuse3>=3.14)
pkg_check_modules(isal REQUIRED IMPORTED_TARGET libisal)

# Jerasure ships without a pkg-config file, and its header asks for its siblings by bare name.
find_library(JERASURE_LIBRARY Jerasure REQUIRED)
find_library(GF_COMPLETE_LIBRARY gf_complete REQUIRED)
find_path(JERASURE_INCLUDE_DIR jerasure.h REQUIRED)
add_library(jerasure INTERFACE)
target_include_directories(jerasure SYSTEM INTERFACE ${JERASURE_INCLUDE_DIR} ${JERASURE_INCLUDE_DIR}/jerasure)
target_link_libraries(jerasure INTERFACE ${JERASURE_LIBRARY} ${GF_COMPLETE_LIBRARY})

find_library(IPSEC_MB_LIBRARY IPSec_MB REQUIRED)
add_library(ipsec_mb INTERFACE)
target_link_libraries(ipsec_mb INTERFACE ${IPSEC_MB_LIBRARY})

# Asio is compiled once, in core/asio.cpp, instead of in every file that includes it.
add_library(asio INTERFACE)
target_include_directories(asio SYSTEM INTERFACE ${Boost_INCLUDE_DIRS})
target_compile_definitions(asio INTERFACE BOOST_ASIO_SEPARATE_COMPILATION BOOST_ASIO_NO_DEPRECATED
  BOOST_ASIO_HAS_STD_INVOKE_RESULT)
target_link_libraries(asio INTERFACE OpenSSL::SSL OpenSSL::Crypto Threads::Threads)
