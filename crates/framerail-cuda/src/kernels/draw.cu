// Draws boxes, text and dots on surfaces in place, stroke after stroke.

#include "samples.cuh"

#define MAX_PICTURES 64
#define TILE_WIDTH 32
#define TILE_HEIGHT 8

enum Shape { FLAT = 0, LINE = 1, TEXT = 2, RASTER = 3 };

struct Stroke {
    // The pixels that may be covered.
    u16 x, y, width, height;
    u16 code[3];
    u8 shape;
    u8 opacity;
    // Ends and width of a line.
    float from_x, from_y, to_x, to_y, line;
    // Start of a text, frame pixels per font pixel, and its characters.
    int text_x, text_y;
    u32 scale;
    // A raster's bytes, one per pixel row by row, are stored among the characters, eight bytes per character slot.
    u32 first_glyph, glyphs;
};

struct Image {
    u64 component[3];
    u32 pitch[2];
    u16 width, height;
    u32 first_stroke, strokes;
    u32 unused;
};

struct DrawParams {
    u64 strokes;
    // Eight rows of a character from the top, each of eight pixels from the lowest bit.
    u64 glyphs;
    u8 step[2];
    u8 sample_bytes;
    u8 value_shift;
    u8 chroma_shift_x, chroma_shift_y;
    u8 components;
    u8 unused;
    float max_value;
    u32 padding;
    Image image[MAX_PICTURES];
};

static_assert(sizeof(Stroke) == 56 && sizeof(Image) == 48, "as in draw.rs");
static_assert(sizeof(DrawParams) == 32 + 48 * MAX_PICTURES && sizeof(DrawParams) <= 4096, "as in draw.rs");

DEVICE u32 line_coverage(const Stroke &stroke, u32 px, u32 py) {
    float x = (float)px + 0.5f, y = (float)py + 0.5f;
    float dx = stroke.to_x - stroke.from_x, dy = stroke.to_y - stroke.from_y;
    float length_squared = dx * dx + dy * dy;
    float along = ((x - stroke.from_x) * dx + (y - stroke.from_y) * dy) / (length_squared > 1e-12f ? length_squared : 1e-12f);
    along = clamp_float(along, 0.0f, 1.0f);
    double off_x = (double)(x - stroke.from_x - dx * along), off_y = (double)(y - stroke.from_y - dy * along);
    float distance = (float)sqrt(off_x * off_x + off_y * off_y);
    return (u32)(clamp_float(stroke.line / 2.0f - distance + 0.5f, 0.0f, 1.0f) * 255.0f);
}

DEVICE u32 text_coverage(const DrawParams &p, const Stroke &stroke, u32 px, u32 py) {
    u32 x = (u32)((int)px - stroke.text_x) / stroke.scale, y = (u32)((int)py - stroke.text_y) / stroke.scale;
    u32 letter = x >> 3;
    if (letter >= stroke.glyphs || y >= 8) return 0;
    const u8 *rows = (const u8 *)p.glyphs + 8 * (u64)(stroke.first_glyph + letter);
    return __ldg(rows + y) >> (x & 7) & 1 ? 255u : 0u;
}

DEVICE u32 raster_coverage(const DrawParams &p, const Stroke &stroke, u32 px, u32 py) {
    const u8 *raster = (const u8 *)p.glyphs + 8 * (u64)stroke.first_glyph;
    return __ldg(raster + (u64)(py - stroke.y) * stroke.width + (px - stroke.x));
}

// Coverage of a pixel in the stroke's region, 0 to 255.
DEVICE u32 coverage_at(const DrawParams &p, const Stroke &stroke, u32 x, u32 y) {
    if (stroke.shape == FLAT) return stroke.opacity;
    if (stroke.shape == RASTER) return raster_coverage(p, stroke, x, y);
    return stroke.shape == LINE ? line_coverage(stroke, x, y) : text_coverage(p, stroke, x, y);
}

DEVICE Samples samples_of(const DrawParams &p, const Image &image, int component) {
    int other = component > 0;
    return Samples{image.component[component], image.pitch[other], p.step[other], p.sample_bytes, p.value_shift, p.max_value};
}

// Draws the pixels that share a chroma sample.
DEVICE void paint(const DrawParams &p, const Image &image, const Stroke &stroke, u32 unit_x, u32 unit_y) {
    u32 left = unit_x << p.chroma_shift_x, top = unit_y << p.chroma_shift_y;
    u32 right = left + (1u << p.chroma_shift_x), bottom = top + (1u << p.chroma_shift_y);
    u32 end_x = (u32)stroke.x + stroke.width, end_y = (u32)stroke.y + stroke.height;
    left = left > stroke.x ? left : stroke.x;
    top = top > stroke.y ? top : stroke.y;
    right = right < end_x ? right : end_x;
    bottom = bottom < end_y ? bottom : end_y;
    if (left >= right || top >= bottom) return;
    Samples luma = samples_of(p, image, 0);
    // The mean of the row means, both rounded down, as on the host.
    u32 total = 0;
    for (u32 y = top; y < bottom; y++) {
        u32 row = 0;
        for (u32 x = left; x < right; x++) {
            u32 coverage = coverage_at(p, stroke, x, y);
            row += coverage;
            if (coverage > 0) blend(luma, x, y, (float)stroke.code[0], coverage);
        }
        total += row / (right - left);
    }
    u32 mean = total / (bottom - top);
    if (mean == 0) return;
    for (int component = 1; component < p.components; component++) {
        blend(samples_of(p, image, component), unit_x, unit_y, (float)stroke.code[component], mean);
    }
}

// Block: 32 x 8 threads, each draws the pixels of one chroma sample of one frame (grid z).
KERNEL(draw, DrawParams) {
    __shared__ u8 touches[256];
    const Image &image = p.image[blockIdx.z];
    u32 thread = threadIdx.y * TILE_WIDTH + threadIdx.x;
    u32 tile_x = blockIdx.x * TILE_WIDTH << p.chroma_shift_x, tile_y = blockIdx.y * TILE_HEIGHT << p.chroma_shift_y;
    u32 tile_right = tile_x + (TILE_WIDTH << p.chroma_shift_x), tile_bottom = tile_y + (TILE_HEIGHT << p.chroma_shift_y);
    const Stroke *strokes = (const Stroke *)p.strokes + image.first_stroke;
    for (u32 start = 0; start < image.strokes; start += 256) {
        bool touching = false;
        if (start + thread < image.strokes) {
            const Stroke &stroke = strokes[start + thread];
            touching = stroke.x < tile_right && stroke.y < tile_bottom && (u32)stroke.x + stroke.width > tile_x &&
                       (u32)stroke.y + stroke.height > tile_y;
        }
        touches[thread] = touching;
        __syncthreads();
        u32 count = image.strokes - start < 256 ? image.strokes - start : 256;
        for (u32 i = 0; i < count; i++) {
            if (touches[i]) {
                paint(p, image, strokes[start + i], blockIdx.x * TILE_WIDTH + threadIdx.x, blockIdx.y * TILE_HEIGHT + threadIdx.y);
            }
        }
        __syncthreads();
    }
}
