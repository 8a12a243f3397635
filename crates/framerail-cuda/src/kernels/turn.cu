// Rotates whole frames by quarter turns, plane by plane.

#include "common.cuh"

struct TurnParams {
    u64 from[3], to[3];
    u32 from_pitch[3], to_pitch[3];
    // Elements of each plane of the source: samples, or pairs of chroma samples.
    u32 columns[3], rows[3];
    // Bytes of an element: 1, 2, 4.
    u8 step[3];
    // Quarter turns clockwise: 1, 2, 3.
    u8 quarters;
};

static_assert(sizeof(TurnParams) == 104, "as in turn.rs");

// Block: 32 x 8 threads, each writes four rows of the rotated plane (grid z), 8 apart.
KERNEL(turn, TurnParams) {
    int plane = (int)blockIdx.z;
    u32 columns = p.columns[plane], rows = p.rows[plane];
    u32 out_columns = p.quarters == 2 ? columns : rows, out_rows = p.quarters == 2 ? rows : columns;
    u32 x = blockIdx.x * 32 + threadIdx.x;
    if (x >= out_columns) return;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        u32 y = blockIdx.y * 32 + i * 8 + threadIdx.y;
        if (y >= out_rows) return;
        u32 row = p.quarters == 1 ? rows - 1 - x : p.quarters == 2 ? rows - 1 - y : x;
        u32 column = p.quarters == 1 ? y : p.quarters == 2 ? columns - 1 - x : columns - 1 - y;
        u64 from = p.from[plane] + (u64)row * p.from_pitch[plane] + (u64)column * p.step[plane];
        u64 to = p.to[plane] + (u64)y * p.to_pitch[plane] + (u64)x * p.step[plane];
        if (p.step[plane] == 1) *(u8 *)to = __ldg((const u8 *)from);
        else if (p.step[plane] == 2) *(u16 *)to = __ldg((const u16 *)from);
        else *(u32 *)to = __ldg((const u32 *)from);
    }
}
