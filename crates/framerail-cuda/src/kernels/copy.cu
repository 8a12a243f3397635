// Converts surfaces between plane layouts: splits or joins chroma, and shifts samples.

#include "common.cuh"

// Samples that a thread copies.
#define RUN 8

struct RepackParams {
    u64 from[3], to[3];
    u32 from_pitch[2], to_pitch[2];
    // Size in samples: of the first component, of the others.
    u32 width[2], height[2];
    u8 from_step[2], to_step[2];
    u8 sample_bytes;
    u8 from_shift, to_shift;
    u8 unused;
};

static_assert(sizeof(RepackParams) == 88, "as in copy.rs");

DEVICE u32 sample_at(const RepackParams &p, u64 at) {
    if (p.sample_bytes == 1) return __ldg((const u8 *)at);
    return (u32)(__ldg((const u16 *)at) >> p.from_shift) << p.to_shift & 0xffffu;
}

// Block: 32 x 8 threads, each copies eight samples of a row of one component (grid z).
KERNEL(repack, RepackParams) {
    int component = (int)blockIdx.z, other = component > 0;
    u32 x = (blockIdx.x * 32 + threadIdx.x) * RUN, y = blockIdx.y * 8 + threadIdx.y;
    if (x >= p.width[other] || y >= p.height[other]) return;
    u32 count = p.width[other] - x < RUN ? p.width[other] - x : RUN;
    u64 from = p.from[component] + (u64)y * p.from_pitch[other] + (u64)x * p.from_step[other];
    u64 to = p.to[component] + (u64)y * p.to_pitch[other] + (u64)x * p.to_step[other];
    bool whole = count == RUN && p.to_step[other] == p.sample_bytes && to % (RUN * p.sample_bytes) == 0;
    if (whole && p.sample_bytes == 1) {
        Pair pair = {{0, 0}};
#pragma unroll
        for (u32 i = 0; i < RUN; i++) pair.word[i >> 2] |= sample_at(p, from + i * p.from_step[other]) << (8 * (i & 3));
        *(Pair *)to = pair;
    } else if (whole) {
        Quad quad = {{0, 0, 0, 0}};
#pragma unroll
        for (u32 i = 0; i < RUN; i++) quad.word[i >> 1] |= sample_at(p, from + i * p.from_step[other]) << (16 * (i & 1));
        *(Quad *)to = quad;
    } else {
        for (u32 i = 0; i < count; i++) {
            u32 sample = sample_at(p, from + i * p.from_step[other]);
            u64 at = to + i * p.to_step[other];
            if (p.sample_bytes == 1) *(u8 *)at = (u8)sample;
            else *(u16 *)at = (u16)sample;
        }
    }
}
