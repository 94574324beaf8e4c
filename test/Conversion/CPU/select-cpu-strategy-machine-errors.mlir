// RUN: moe-opt %s --split-input-file --moe-select-cpu-strategy --verify-diagnostics

// expected-error @+1 {{the target's "CPU" has L1_cache_size_in_bytes = 0 : i64; use a positive number of bytes, or leave it out for 49152}}
module attributes {dlti.target_system_spec = #dlti.target_system_spec<
    "CPU" = #dlti.target_device_spec<"L1_cache_size_in_bytes" = 0 : i64>>} {}

// -----

// expected-error @+1 {{the target's "CPU" has L2_cache_size_in_bytes = "large"; use a positive number of bytes, or leave it out for 1048576}}
module attributes {dlti.target_system_spec = #dlti.target_system_spec<
    "CPU" = #dlti.target_device_spec<"L2_cache_size_in_bytes" = "large">>} {}

// -----

// expected-error @+1 {{unknown isa 'sse9'; use generic, avx2, avx512, avx512bf16 or amx-bf16}}
module attributes {dlti.target_system_spec = #dlti.target_system_spec<
    "CPU" = #dlti.target_device_spec<"vector_isa" = "sse9">>} {}

// -----

// expected-error @+1 {{the target's "CPU" has vector_isa = 512 : i64; use a name in quotes: generic, avx2, avx512, avx512bf16 or amx-bf16}}
module attributes {dlti.target_system_spec = #dlti.target_system_spec<
    "CPU" = #dlti.target_device_spec<"vector_isa" = 512 : i64>>} {}
