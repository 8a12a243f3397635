// Brightness histograms of frames, for scene detection.

#include "common.cuh"

#define BINS 32
#define MAX_PICTURES 64

struct Image {
    // First sample of the counted component.
    u64 first;
    // 32-bit counters, one per bin, to which the kernel adds.
    u64 counts;
    // Bytes between counted rows, and between counted samples.
    u32 row_step, column_step;
    // Number of counted columns and rows.
    u16 columns, rows;
    u8 sample_bytes;
    // Bits by which stored samples are shifted right to get their bin.
    u8 shift;
    u8 unused[2];
};

struct CountParams {
    Image image[MAX_PICTURES];
};

static_assert(sizeof(Image) == 32 && sizeof(CountParams) == 32 * MAX_PICTURES, "as in scene.rs");

#define TILE_COLUMNS 32
#define TILE_ROWS 32

// Block: 32 x 8 threads, 32 x 32 counted samples of one frame (grid z).
KERNEL(count_samples, CountParams) {
    __shared__ u32 bins[BINS];
    const Image &image = p.image[blockIdx.z];
    u32 thread = threadIdx.y * 32 + threadIdx.x;
    if (thread < BINS) bins[thread] = 0;
    __syncthreads();
    u32 x = blockIdx.x * TILE_COLUMNS + threadIdx.x, tile_y = blockIdx.y * TILE_ROWS;
    for (u32 row = threadIdx.y; row < TILE_ROWS; row += 8) {
        u32 y = tile_y + row;
        if (x >= image.columns || y >= image.rows) break;
        u64 at = image.first + (u64)y * image.row_step + (u64)x * image.column_step;
        u32 stored = image.sample_bytes == 1 ? (u32)__ldg((const u8 *)at) : (u32)__ldg((const u16 *)at);
        u32 bin = stored >> image.shift;
        atomicAdd(&bins[bin < BINS ? bin : BINS - 1], 1u);
    }
    __syncthreads();
    if (thread < BINS && bins[thread] > 0) atomicAdd((u32 *)image.counts + thread, bins[thread]);
}
