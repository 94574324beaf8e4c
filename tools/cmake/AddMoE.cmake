# What every target of the project is made with. One place for the link rule, the
# warnings, and the installed package.
include(GNUInstallDirs)

set(MOE_INSTALL_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/moe)

# moe_set_compile_options(target): warnings and sanitizers of our own code.
function(moe_set_compile_options target)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-unused-parameter -Wimplicit-fallthrough>
    # g++ sees LLVM's unions of inline and heap buckets as uninitialized when inlined.
    $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-maybe-uninitialized>)
  if(MOE_WARNINGS_AS_ERRORS)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
  endif()
  if(MOE_SANITIZERS)
    target_compile_options(${target} PRIVATE
      -fsanitize=${MOE_SANITIZERS} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${MOE_SANITIZERS})
    # These checks need the RTTI and the type hashes of what lives in libMLIR.so.
    if(MOE_SANITIZERS MATCHES "undefined")
      target_compile_options(${target} PRIVATE -fno-sanitize=vptr
        $<$<CXX_COMPILER_ID:Clang>:-fno-sanitize=function>)
    endif()
  endif()
endfunction()

# What nearly every source of ours includes, of LLVM and MLIR alone. Nine tenths of the time of
# a compilation with g++ are these headers. Sources still include what they use: builds
# without MOE_PRECOMPILE_HEADERS, that of CI among them, would fail otherwise.
set(MOE_PRECOMPILED_HEADERS
  <mlir/Dialect/Affine/IR/AffineOps.h>
  <mlir/Dialect/Arith/IR/Arith.h>
  <mlir/Dialect/Bufferization/IR/Bufferization.h>
  <mlir/Dialect/Func/IR/FuncOps.h>
  <mlir/Dialect/Linalg/IR/Linalg.h>
  <mlir/Dialect/MemRef/IR/MemRef.h>
  <mlir/Dialect/SCF/IR/SCF.h>
  <mlir/Dialect/Tensor/IR/Tensor.h>
  <mlir/IR/IRMapping.h>
  <mlir/IR/PatternMatch.h>
  <mlir/Pass/PassManager.h>
  <mlir/Transforms/Passes.h>
  <llvm/Support/CommandLine.h>
  <llvm/Support/JSON.h>)

# moe_precompile_headers(target): one precompiled header for all targets.
function(moe_precompile_headers target)
  if(MOE_PRECOMPILE_HEADERS)
    target_precompile_headers(${target} REUSE_FROM MoEPrecompiledHeaders)
  endif()
endfunction()

if(MOE_PRECOMPILE_HEADERS)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/MoEPrecompiledHeaders.cpp)
  file(CONFIGURE OUTPUT ${source} CONTENT "")
  add_library(MoEPrecompiledHeaders OBJECT ${source})
  set_target_properties(MoEPrecompiledHeaders PROPERTIES
    FOLDER "MoE/Libraries" POSITION_INDEPENDENT_CODE ON)
  llvm_update_compile_flags(MoEPrecompiledHeaders)
  moe_set_compile_options(MoEPrecompiledHeaders)
  target_precompile_headers(MoEPrecompiledHeaders PRIVATE ${MOE_PRECOMPILED_HEADERS})
endif()

# add_moe_library(name [NO_INSTALL] sources... [DEPENDS ...] [MOE_LIBS ...] [MLIR_LIBS ...]
#                 [LLVM_COMPONENTS ...])
#
# A static library in the MoE export set, unless NO_INSTALL says otherwise. MOE_LIBS are other libraries of the project;
# MLIR_LIBS become libMLIR.so unless MOE_LINK_MLIR_DYLIB is off. EXCLUDE_FROM_LIBMLIR and
# mlir_target_link_libraries together are what keeps static MLIR archives off the link
# line; either alone does not.
function(add_moe_library name)
  cmake_parse_arguments(ARG "NO_INSTALL" "" "DEPENDS;MOE_LIBS;MLIR_LIBS;LLVM_COMPONENTS" ${ARGN})
  add_mlir_library(${name} STATIC
    ${ARG_UNPARSED_ARGUMENTS}
    DISABLE_INSTALL EXCLUDE_FROM_LIBMLIR
    DEPENDS ${ARG_DEPENDS}
    LINK_COMPONENTS ${ARG_LLVM_COMPONENTS})
  set_target_properties(${name} PROPERTIES
    FOLDER "MoE/Libraries" POSITION_INDEPENDENT_CODE ON)
  moe_set_compile_options(${name})
  moe_precompile_headers(${name})
  if(ARG_MLIR_LIBS)
    mlir_target_link_libraries(${name} PUBLIC ${ARG_MLIR_LIBS})
  endif()
  target_link_libraries(${name} PUBLIC ${ARG_MOE_LIBS})
  target_include_directories(${name} INTERFACE
    $<BUILD_INTERFACE:${MOE_SOURCE_DIR}/include>
    $<BUILD_INTERFACE:${MOE_BINARY_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  if(ARG_NO_INSTALL)
    return()
  endif()
  install(TARGETS ${name} EXPORT MoETargets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT moe-libraries)
  set_property(GLOBAL APPEND PROPERTY MOE_LIBRARIES ${name})
endfunction()

# add_moe_tool(name sources... [MOE_LIBS ...] [MLIR_LIBS ...] [LLVM_COMPONENTS ...])
#
# An executable in build/bin and in the installed bin folder.
function(add_moe_tool name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;MOE_LIBS;MLIR_LIBS;LLVM_COMPONENTS" ${ARGN})
  set(LLVM_LINK_COMPONENTS ${ARG_LLVM_COMPONENTS} Support)
  add_llvm_executable(${name} ${ARG_UNPARSED_ARGUMENTS} DEPENDS ${ARG_DEPENDS})
  # An installed tool finds the libMLIR.so that it was linked with.
  set_target_properties(${name} PROPERTIES
    FOLDER "MoE/Tools" INSTALL_RPATH_USE_LINK_PATH ON)
  llvm_update_compile_flags(${name})
  moe_set_compile_options(${name})
  moe_precompile_headers(${name})
  target_link_libraries(${name} PRIVATE ${ARG_MOE_LIBS})
  if(ARG_MLIR_LIBS)
    mlir_target_link_libraries(${name} PRIVATE ${ARG_MLIR_LIBS})
  endif()
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT moe-tools)
  set_property(GLOBAL APPEND PROPERTY MOE_TOOLS ${name})
endfunction()

# moe_install_package(): headers, .td files, targets and MoEConfig.cmake.
function(moe_install_package)
  install(DIRECTORY ${MOE_SOURCE_DIR}/include/moe DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    COMPONENT moe-headers FILES_MATCHING PATTERN "*.h" PATTERN "*.td")
  install(DIRECTORY ${MOE_BINARY_DIR}/include/moe DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    COMPONENT moe-headers FILES_MATCHING PATTERN "*.h" PATTERN "*.inc"
    PATTERN CMakeFiles EXCLUDE)
  include(CMakePackageConfigHelpers)
  configure_package_config_file(${MOE_SOURCE_DIR}/tools/cmake/MoEConfig.cmake.in
    ${MOE_BINARY_DIR}/cmake/MoEConfig.cmake INSTALL_DESTINATION ${MOE_INSTALL_CMAKE_DIR}
    PATH_VARS CMAKE_INSTALL_INCLUDEDIR)
  write_basic_package_version_file(${MOE_BINARY_DIR}/cmake/MoEConfigVersion.cmake
    VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
  install(FILES ${MOE_BINARY_DIR}/cmake/MoEConfig.cmake
    ${MOE_BINARY_DIR}/cmake/MoEConfigVersion.cmake
    DESTINATION ${MOE_INSTALL_CMAKE_DIR} COMPONENT moe-cmake)
  install(EXPORT MoETargets DESTINATION ${MOE_INSTALL_CMAKE_DIR} COMPONENT moe-cmake)
endfunction()
