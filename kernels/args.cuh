// The argument block of every row kernel: the whole contract between host and device.
// `src/raw.rs` has the same struct; field order and types must match (both sides assert the size).
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

struct Args {
    u64 rows;
    u64 cols;
    const void* scores;     // [rows, cols], element type in the kernel's name
    u64 scores_stride;      // elements from one row to the next, >= cols
    const void* labels;     // [rows, cols], element type in the kernel's name
    u64 labels_stride;      // elements; 0 = one row for all
    const u8* mask;         // [rows, cols] bytes, 0 = masked; null = nothing masked
    u64 mask_stride;        // elements; 0 = one row for all
    void* gradient;         // [rows, cols]; null = forward only; may equal `scores` (same stride)
    u64 gradient_stride;    // elements
    float* loss;            // [rows]
    const float* upstream;  // [rows] or one value (stride 0); null = 1
    u64 upstream_stride;    // 0 or 1
    float scale;            // multiplies the gradient in f32: host upstream, 1/rows of a mean
    float low;              // labels below count as exactly 0
    float high;             // labels above count as exactly 1
    float cutoff;           // scores at or below are masked; -inf when the caller gave none
    u32 gradient_f32;       // 1: the gradient is f32, 0: it has the scores' type
    u32 reserved;           // keeps the size a multiple of 8 without hidden padding
};
static_assert(sizeof(Args) == 128, "Args differs from the host's");
