// The (scores, labels) type pairs every regime is instantiated for: labels in the scores' type, in f32,
// or hard u8. `src/kernels.rs` lists the same pairs.
#pragma once
#include "row.cuh"

#define ZLPR_FOR_EACH_PAIR(KERNEL) \
    KERNEL(f32_f32, float, float)  \
    KERNEL(f32_u8, float, u8)      \
    KERNEL(f16_f16, f16, f16)      \
    KERNEL(f16_f32, f16, float)    \
    KERNEL(f16_u8, f16, u8)        \
    KERNEL(bf16_bf16, bf16, bf16)  \
    KERNEL(bf16_f32, bf16, float)  \
    KERNEL(bf16_u8, bf16, u8)
