// Converts decoded frames to tensors: crop, resize, letterbox, colour, normalisation, layout and type in one pass over a batch.

#include "common.cuh"

#define MAX_PICTURES 48

// The resampling method.
enum Sampling { BILINEAR = 0, BILINEAR_8BIT = 1, AREA = 2, FILTER = 3 };

// value = clamp(gain . samples + bias, 0, 255); element = value * scale + shift.
struct ChannelMix {
    float gain[3];
    float bias;
    float scale;
    float shift;
};

// Coefficients in Q13 for samples multiplied by eight; see framerail-core's FastYuv.
struct FastYuv {
    i16 black;
    i16 luma;
    i16 red_cr;
    i16 green_cb;
    i16 green_cr;
    i16 blue_cb;
};

struct Image {
    // First sample of each colour component.
    u64 component[3];
    u64 out;
    union {
        // The part that is resampled, in pixels.
        struct {
            float window_x, window_y, window_width, window_height;
        };
        // With a filter: its tables.
        struct {
            u64 across, down;
        };
    };
    // Pitch in bytes: of the first component, of the others.
    u32 pitch[2];
    u16 width, height;
    // Where the resampled part is placed in the output.
    u16 left, top, placed_width, placed_height;
    u32 unused;
};

struct ConvertParams {
    ChannelMix mix[3];
    // Element outside the frame.
    float padding[3];
    FastYuv fast;
    u32 out_width, out_height;
    // Bytes between samples: of the first component, of the others.
    u8 step[2];
    u8 components;
    u8 sample_bytes;
    // Bits by which stored samples are shifted right first.
    u8 value_shift;
    // log2 of the chroma subsampling.
    u8 chroma_shift_x, chroma_shift_y;
    u8 sampling;
    u8 use_fast;
    u8 channels;
    // 0: red first; 1: blue first. Only used with the fast coefficients.
    u8 blue_first;
    u8 hsv;
    u8 element_type;
    u8 interleaved;
    // Whether a filter's input channels are rounded to 8 bits.
    u8 in_bytes;
    u8 unused;
    // Tone-mapping curves, or 0.
    u64 tone;
    Image image[MAX_PICTURES];
};

static_assert(sizeof(Image) == 72, "as in convert.rs");
static_assert(sizeof(ConvertParams) == 128 + 72 * MAX_PICTURES && sizeof(ConvertParams) <= 4096, "as in convert.rs");

// The source positions of one output position of an axis, and their weights.
struct Tap {
    u32 first, last;
    // Weights of the first, of those between, of the last.
    float weight[3];
};

struct Axis {
    u32 samples, pixels, shift;
    double origin, extent, out;
};

DEVICE Tap bilinear_tap(const Axis &axis, u32 position) {
    double last = (double)(axis.pixels - 1);
    double at = clamp_double(((double)position + 0.5) * axis.extent / axis.out - 0.5 + axis.origin, 0.0, last);
    double first = floor(at);
    float weight = (float)(at - first);
    u32 second = (u32)(first + 1.0 < last ? first + 1.0 : last) >> axis.shift;
    u32 near = (u32)first >> axis.shift;
    if (weight == 0.0f || near == second) return Tap{near, near, {1.0f, 0.0f, 0.0f}};
    return Tap{near, second, {1.0f - weight, 0.0f, weight}};
}

DEVICE Tap area_tap(const Axis &axis, u32 position) {
    double pixels_per_sample = (double)(1u << axis.shift);
    double step = axis.extent / axis.out;
    double from = (axis.origin + step * (double)position) / pixels_per_sample;
    double to = from + step / pixels_per_sample;
    double end = (double)axis.samples;
    from = clamp_double(from, 0.0, end - 1e-6);
    to = clamp_double(to, 1e-6, end);
    u32 first = (u32)floor(from);
    u32 last = (u32)clamp_int((int)ceil(to), 1, (int)axis.samples) - 1;
    if (last <= first) return Tap{first, first, {1.0f, 0.0f, 0.0f}};
    double length = to - from > 1e-9 ? to - from : 1e-9;
    double first_part = (double)first + 1.0 - from, last_part = to - (double)last;
    first_part = first_part > 1e-9 ? first_part : 1e-9;
    last_part = last_part > 1e-9 ? last_part : 1e-9;
    return Tap{first, last, {(float)(first_part / length), (float)(1.0 / length), (float)(last_part / length)}};
}

// Weights in units of 1/2048, at OpenCV's single-precision positions. If both positions are the edge of the frame, `down` keeps
// both weights, because their two products are rounded separately.
DEVICE Tap byte_tap(const Axis &axis, u32 position, bool down) {
    double whole = floor(axis.origin), part = axis.origin - whole;
    float at = (float)(((double)position + 0.5) * (axis.extent / axis.out) - 0.5 + part);
    float near = floorf(at), weight = at - near;
    i64 first = (i64)near + (i64)whole, last = (i64)axis.pixels - 1;
    u32 from = (u32)(first < 0 ? 0 : first > last ? last : first);
    u32 to = (u32)(first + 1 < 0 ? 0 : first + 1 > last ? last : first + 1);
    if (from == to && !down) return Tap{from, to, {2048.0f, 0.0f, 0.0f}};
    return Tap{from, to, {rintf((1.0f - weight) * 2048.0f), 0.0f, rintf(weight * 2048.0f)}};
}

DEVICE Tap tap_of(const ConvertParams &p, const Axis &axis, u32 position, bool down) {
    if (p.sampling == BILINEAR_8BIT) return byte_tap(axis, position, down);
    return p.sampling == AREA ? area_tap(axis, position) : bilinear_tap(axis, position);
}

// `chroma` is 1 for the subsampled components of Y'CbCr, 0 for others.
DEVICE Axis axis_across(const ConvertParams &p, const Image &image, int chroma) {
    u32 shift = chroma ? p.chroma_shift_x : 0u, pixels = image.width;
    return Axis{(pixels + (1u << shift) - 1u) >> shift, pixels, shift, image.window_x, image.window_width, (double)image.placed_width};
}

DEVICE Axis axis_down(const ConvertParams &p, const Image &image, int chroma) {
    u32 shift = chroma ? p.chroma_shift_y : 0u, pixels = image.height;
    return Axis{(pixels + (1u << shift) - 1u) >> shift, pixels, shift, image.window_y, image.window_height, (double)image.placed_height};
}

// A stored sample; the taps keep x and y within the component.
DEVICE float sample_at(const ConvertParams &p, const Image &image, int component, u32 x, u32 y) {
    int other = component > 0;
    u64 at = image.component[component] + (u64)y * image.pitch[other] + (u64)x * p.step[other];
    if (p.sample_bytes == 1) return (float)__ldg((const u8 *)at);
    return (float)(__ldg((const u16 *)at) >> p.value_shift);
}

// Weighted sum of one column's samples over the rows.
DEVICE float weigh_rows(const ConvertParams &p, const Image &image, int component, u32 x, const Tap &down) {
    float sum = sample_at(p, image, component, x, down.first) * down.weight[0];
    for (u32 y = down.first + 1; y <= down.last; y++) {
        sum += sample_at(p, image, component, x, y) * down.weight[y == down.last ? 2 : 1];
    }
    return sum;
}

DEVICE float resample(const ConvertParams &p, const Image &image, int component, const Tap &across, const Tap &down) {
    float first = weigh_rows(p, image, component, across.first, down);
    if (across.last == across.first) return first;
    if (across.last == across.first + 1) {
        return first + (weigh_rows(p, image, component, across.last, down) - first) * across.weight[2];
    }
    float sum = first * across.weight[0];
    for (u32 x = across.first + 1; x <= across.last; x++) {
        sum += weigh_rows(p, image, component, x, down) * across.weight[x == across.last ? 2 : 1];
    }
    return sum;
}

DEVICE float mix_samples(const ConvertParams &p, int channel, const float *sample) {
    const ChannelMix &mix = p.mix[channel];
    float value = mix.gain[0] * sample[0];
    if (p.components == 3) value = value + mix.gain[1] * sample[1] + mix.gain[2] * sample[2];
    return clamp_float(value + mix.bias, 0.0f, 255.0f);
}

DEVICE int multiply_high(int left, int right) { return left * right >> 16; }

// One channel of RGB (0: red, 1: green, 2: blue) with FFmpeg's coefficients.
DEVICE u32 fast_channel(const FastYuv &fast, int channel, int y, int cb, int cr) {
    int luma = multiply_high(y * 8 - fast.black, fast.luma);
    cb = cb * 8 - 1024, cr = cr * 8 - 1024;
    int red = multiply_high(cr, fast.red_cr), blue = multiply_high(cb, fast.blue_cb);
    int green = multiply_high(cb, fast.green_cb) + multiply_high(cr, fast.green_cr);
    return (u32)clamp_int(luma + (channel == 0 ? red : channel == 1 ? green : blue), 0, 255);
}

// The channels of one source pixel, in 8 bits.
DEVICE void pixel_bytes(const ConvertParams &p, const Image &image, u32 x, u32 y, int *channel) {
    float sample[3] = {0.0f, 0.0f, 0.0f};
    for (int component = 0; component < p.components; component++) {
        u32 shift_x = component ? p.chroma_shift_x : 0u, shift_y = component ? p.chroma_shift_y : 0u;
        sample[component] = sample_at(p, image, component, x >> shift_x, y >> shift_y);
    }
    if (!p.use_fast) {
        for (int i = 0; i < p.channels; i++) channel[i] = (int)to_byte(mix_samples(p, i, sample));
        return;
    }
    for (int i = 0; i < 3; i++) {
        channel[i] = (int)fast_channel(p.fast, p.blue_first ? 2 - i : i, (int)sample[0], (int)sample[1], (int)sample[2]);
    }
}

// Interpolates between four pixels in 8-bit arithmetic, as in OpenCV.
DEVICE void resample_bytes(const ConvertParams &p, const Image &image, const Tap &across, const Tap &down, float *value) {
    int rows[2][3];
    if (across.weight[2] == 0.0f && down.weight[2] == 0.0f) {
        pixel_bytes(p, image, across.first, down.first, rows[0]);
        for (int i = 0; i < p.channels; i++) value[i] = (float)rows[0][i];
        return;
    }
    for (int row = 0; row < 2; row++) {
        u32 y = row ? down.last : down.first;
        int near[3], far[3];
        pixel_bytes(p, image, across.first, y, near);
        pixel_bytes(p, image, across.last, y, far);
        for (int i = 0; i < p.channels; i++) {
            rows[row][i] = (near[i] * (int)across.weight[0] + far[i] * (int)across.weight[2]) >> 4;
        }
    }
    for (int i = 0; i < p.channels; i++) {
        int sum = multiply_high(rows[0][i], (int)down.weight[0]) + multiply_high(rows[1][i], (int)down.weight[2]);
        value[i] = (float)((sum + 2) >> 2);
    }
}

// Full-range RGB to OpenCV's 8-bit HSV: hue in units of 2 degrees, 0 to 179; saturation and value 0 to 255.
DEVICE void to_hsv(float *value) {
    int red = (int)to_byte(value[0]), green = (int)to_byte(value[1]), blue = (int)to_byte(value[2]);
    int most = red > green ? red : green, least = red < green ? red : green;
    most = most > blue ? most : blue;
    least = least < blue ? least : blue;
    int spread = most - least;
    int part = most == red ? green - blue : most == green ? blue - red + 2 * spread : red - green + 4 * spread;
    // Reciprocals in Q12, rounded.
    int hue_factor = spread ? (int)rintf(122880.0f / (float)spread) : 0;
    int saturation_factor = most ? (int)rintf(1044480.0f / (float)most) : 0;
    int hue = (part * hue_factor + 2048) >> 12;
    value[0] = (float)(hue < 0 ? hue + 180 : hue);
    value[1] = (float)((spread * saturation_factor + 2048) >> 12);
    value[2] = (float)most;
}

// Looks up a table with 4096 equal steps over 0 to 1.
DEVICE float table_at(const float *table, float position) {
    float place = clamp_float(position, 0.0f, 1.0f) * 4096.0f;
    u32 step = (u32)place;
    float first = __ldg(table + step), second = __ldg(table + step + 1);
    return first + (second - first) * (place - (float)step);
}

// Looks up a table with equal steps of the fourth root.
DEVICE float light_table_at(const float *table, float light) { return table_at(table, sqrtf(sqrtf(light > 0.0f ? light : 0.0f))); }

// Maps HDR red, green and blue to SDR with framerail-core's ToneCurves.
DEVICE void map_tone(u64 curves, bool blue_first, float *value) {
    const float *gamut = (const float *)curves + 1, *light_of = gamut + 9, *gain_of = light_of + 4098;
    const float *signal_of = gain_of + 4098, *system_of = signal_of + 4098;
    float light[3];
    for (int i = 0; i < 3; i++) light[i] = table_at(light_of, value[blue_first ? 2 - i : i] / 255.0f);
    if (__ldg((const float *)curves) != 0.0f) {
        float gain = light_table_at(system_of, 0.2627f * light[0] + 0.6780f * light[1] + 0.0593f * light[2]);
        for (int i = 0; i < 3; i++) light[i] *= gain;
    }
    float most = light[0] > light[1] ? light[0] : light[1];
    most = most > light[2] ? most : light[2];
    // From the source's peak of 1000 cd/m2 to reference white at 203.
    float gain = light_table_at(gain_of, most) * (1000.0f / 203.0f);
    for (int i = 0; i < 3; i++) light[i] *= gain;
    for (int i = 0; i < 3; i++) {
        float sum = __ldg(gamut + 3 * i) * light[0] + __ldg(gamut + 3 * i + 1) * light[1] + __ldg(gamut + 3 * i + 2) * light[2];
        value[blue_first ? 2 - i : i] = light_table_at(signal_of, sum < 1.0f ? sum : 1.0f);
    }
}

// The steps after the channels are computed and clamped to 0..255.
DEVICE void finish_pixel(const ConvertParams &p, float *value, float *element) {
    if (p.tone) map_tone(p.tone, p.blue_first, value);
    if (p.hsv) to_hsv(value);
    for (int i = 0; i < 3; i++) element[i] = value[i] * p.mix[i].scale + p.mix[i].shift;
}

// The elements of one output pixel.
DEVICE void convert_pixel(const ConvertParams &p, const Image &image, const Tap *across, const Tap *down, float *element) {
    float value[3] = {0.0f, 0.0f, 0.0f};
    if (p.sampling == BILINEAR_8BIT) {
        resample_bytes(p, image, across[0], down[0], value);
    } else {
        float sample[3] = {0.0f, 0.0f, 0.0f};
        for (int component = 0; component < p.components; component++) {
            sample[component] = resample(p, image, component, across[component > 0], down[component > 0]);
        }
        for (int i = 0; i < p.channels; i++) value[i] = mix_samples(p, i, sample);
    }
    finish_pixel(p, value, element);
}

// Stores four consecutive elements at an address aligned for all four.
DEVICE void store_four(int type, u64 at, const float *element) {
    if (type == TYPE_U8) {
        *(u32 *)at = byte_of_element(element[0]) | byte_of_element(element[1]) << 8 | byte_of_element(element[2]) << 16 |
                     byte_of_element(element[3]) << 24;
    } else if (type == TYPE_F32) {
        *(Quad *)at = Quad{{bits_of(element[0]), bits_of(element[1]), bits_of(element[2]), bits_of(element[3])}};
    } else {
        *(Pair *)at = Pair{{half_of_element(type, element[0]) | half_of_element(type, element[1]) << 16,
                            half_of_element(type, element[2]) | half_of_element(type, element[3]) << 16}};
    }
}

// Stores up to four consecutive pixels, given as element[channel][pixel].
DEVICE void store_pixels(const ConvertParams &p, u64 out, u32 x, u32 y, u32 count, const float element[3][4]) {
    int type = p.element_type;
    u64 size = type == TYPE_U8 ? 1 : type == TYPE_F32 ? 4 : 2;
    u64 pixel = (u64)y * p.out_width + x, plane = (u64)p.out_width * p.out_height;
    if (!p.interleaved || p.channels == 1) {
        for (int channel = 0; channel < p.channels; channel++) {
            u64 first = channel * plane + pixel, at = out + first * size;
            if (count == 4 && at % (4 * size) == 0) {
                store_four(type, at, element[channel]);
            } else {
                for (u32 i = 0; i < count; i++) store_one(type, out, first + i, element[channel][i]);
            }
        }
        return;
    }
    u64 at = out + pixel * 3 * size;
    if (count == 4 && at % (4 * size) == 0) {
        float row[12];
        for (int i = 0; i < 12; i++) row[i] = element[i % 3][i / 3];
        for (int i = 0; i < 3; i++) store_four(type, at + i * 4 * size, row + 4 * i);
        return;
    }
    for (u32 i = 0; i < count; i++) {
        for (int channel = 0; channel < 3; channel++) store_one(type, out, (pixel + i) * 3 + channel, element[channel][i]);
    }
}

#define TILE_WIDTH 128
#define TILE_HEIGHT 8

// Any format, sampling, type and layout. Block: 32 x 8 threads, 128 x 8 pixels of one frame (grid z).
KERNEL(convert, ConvertParams) {
    // Positions need double precision, which is slow on many GPUs: compute them once per row and column of the tile.
    __shared__ Tap across[2][TILE_WIDTH];
    __shared__ Tap down[2][TILE_HEIGHT];
    const Image &image = p.image[blockIdx.z];
    u32 thread = threadIdx.y * 32 + threadIdx.x;
    u32 tile_x = blockIdx.x * TILE_WIDTH, tile_y = blockIdx.y * TILE_HEIGHT;
    for (u32 i = thread; i < 2 * (TILE_WIDTH + TILE_HEIGHT); i += 256) {
        bool is_row = i >= 2 * TILE_WIDTH;
        u32 entry = is_row ? i - 2 * TILE_WIDTH : i, length = is_row ? TILE_HEIGHT : TILE_WIDTH;
        int chroma = entry >= length;
        u32 index = chroma ? entry - length : entry;
        int position = (int)((is_row ? tile_y : tile_x) + index) - (int)(is_row ? image.top : image.left);
        u32 placed = is_row ? image.placed_height : image.placed_width;
        if (position < 0 || position >= (int)placed) continue;
        Axis axis = is_row ? axis_down(p, image, chroma) : axis_across(p, image, chroma);
        Tap tap = tap_of(p, axis, (u32)position, is_row);
        if (is_row) down[chroma][index] = tap;
        else across[chroma][index] = tap;
    }
    __syncthreads();

    u32 x = tile_x + threadIdx.x * 4, y = tile_y + threadIdx.y;
    if (x >= p.out_width || y >= p.out_height) return;
    u32 count = p.out_width - x < 4 ? p.out_width - x : 4;
    float element[3][4];
    bool row_placed = y >= image.top && y < (u32)image.top + image.placed_height;
    Tap row[2] = {down[0][threadIdx.y], down[1][threadIdx.y]};
    for (u32 i = 0; i < 4; i++) {
        bool placed = i < count && row_placed && x + i >= image.left && x + i < (u32)image.left + image.placed_width;
        float pixel[3] = {p.padding[0], p.padding[1], p.padding[2]};
        if (placed) {
            Tap column[2] = {across[0][threadIdx.x * 4 + i], across[1][threadIdx.x * 4 + i]};
            convert_pixel(p, image, column, row, pixel);
        }
        for (int channel = 0; channel < 3; channel++) element[channel][i] = pixel[channel];
    }
    store_pixels(p, image.out, x, y, count, element);
}

// The first pixel of an output position, and the start of its weights.
struct FilterPlace {
    u32 first, start;
};

DEVICE FilterPlace filter_place(u64 table, u32 position) {
    const u32 *at = (const u32 *)table + 2 * (u64)position;
    return FilterPlace{__ldg(at), __ldg(at + 1)};
}

DEVICE const float *filter_weights(u64 table, u32 positions, u32 start) { return (const float *)(table + 8 * ((u64)positions + 1)) + start; }

#define FILTER_WIDTH 64
#define FILTER_HEIGHT 4
#define FILTER_CHUNK 128

// Converts source pixels to channels and applies a filter: vertically first, for each column that the tile needs, then horizontally.
// Block: 64 x 4 threads, one pixel each, of one frame (grid z).
KERNEL(convert_filtered, ConvertParams) {
    __shared__ float weighed[FILTER_HEIGHT][3][FILTER_CHUNK];
    __shared__ u32 first_of[FILTER_WIDTH], end_of[FILTER_WIDTH];
    const Image &image = p.image[blockIdx.z];
    u32 x = blockIdx.x * FILTER_WIDTH + threadIdx.x, y = blockIdx.y * FILTER_HEIGHT + threadIdx.y;
    bool column_placed = x >= image.left && x < (u32)image.left + image.placed_width;
    bool row_placed = y >= image.top && y < (u32)image.top + image.placed_height;
    u32 first = 0xffffffffu, end = 0;
    const float *across = 0, *down = 0;
    if (column_placed) {
        u32 position = x - image.left;
        FilterPlace place = filter_place(image.across, position);
        first = place.first, end = place.first + (filter_place(image.across, position + 1).start - place.start);
        across = filter_weights(image.across, image.placed_width, place.start);
    }
    u32 row = 0, rows = 0;
    if (row_placed) {
        u32 position = y - image.top;
        FilterPlace place = filter_place(image.down, position);
        row = place.first, rows = filter_place(image.down, position + 1).start - place.start;
        down = filter_weights(image.down, image.placed_height, place.start);
    }
    if (threadIdx.y == 0) first_of[threadIdx.x] = first, end_of[threadIdx.x] = end;
    __syncthreads();
    u32 tile_first = 0xffffffffu, tile_end = 0;
    for (u32 i = 0; i < FILTER_WIDTH; i++) {
        tile_first = first_of[i] < tile_first ? first_of[i] : tile_first;
        tile_end = end_of[i] > tile_end ? end_of[i] : tile_end;
    }
    float sum[3] = {0.0f, 0.0f, 0.0f};
    for (u32 chunk = tile_first; chunk < tile_end; chunk += FILTER_CHUNK) {
        u32 chunk_end = tile_end - chunk < FILTER_CHUNK ? tile_end : chunk + FILTER_CHUNK;
        for (u32 column = chunk + threadIdx.x; column < chunk_end; column += FILTER_WIDTH) {
            float rows_sum[3] = {0.0f, 0.0f, 0.0f};
            for (u32 i = 0; i < rows; i++) {
                float weight = __ldg(down + i);
                if (p.in_bytes) {
                    int channel[3] = {0, 0, 0};
                    pixel_bytes(p, image, column, row + i, channel);
                    for (int k = 0; k < 3; k++) rows_sum[k] += (float)channel[k] * weight;
                } else {
                    float sample[3] = {0.0f, 0.0f, 0.0f};
                    for (int component = 0; component < p.components; component++) {
                        u32 shift_x = component ? p.chroma_shift_x : 0u, shift_y = component ? p.chroma_shift_y : 0u;
                        sample[component] = sample_at(p, image, component, column >> shift_x, (row + i) >> shift_y);
                    }
                    for (int k = 0; k < p.channels; k++) rows_sum[k] += mix_samples(p, k, sample) * weight;
                }
            }
            for (int k = 0; k < 3; k++) weighed[threadIdx.y][k][column - chunk] = rows_sum[k];
        }
        __syncthreads();
        if (column_placed && row_placed) {
            u32 from = first > chunk ? first : chunk, to = end < chunk_end ? end : chunk_end;
            for (u32 column = from; column < to; column++) {
                float weight = __ldg(across + (column - first));
                for (int k = 0; k < 3; k++) sum[k] += weighed[threadIdx.y][k][column - chunk] * weight;
            }
        }
        __syncthreads();
    }
    if (x >= p.out_width || y >= p.out_height) return;
    float element[3] = {p.padding[0], p.padding[1], p.padding[2]};
    if (column_placed && row_placed) {
        for (int k = 0; k < 3; k++) sum[k] = clamp_float(sum[k], 0.0f, 255.0f);
        finish_pixel(p, sum, element);
    }
    u64 pixel = (u64)y * p.out_width + x, plane = (u64)p.out_width * p.out_height;
    for (int channel = 0; channel < p.channels; channel++) {
        u64 index = p.interleaved ? pixel * p.channels + channel : channel * plane + pixel;
        store_one(p.element_type, image.out, index, element[channel]);
    }
}

// Sixteen bytes of a row: sixteen luma samples, or eight chroma pairs.
DEVICE Quad load_quad(u64 at) {
#ifdef FRAMERAIL_EMULATION
    return *(const Quad *)at;
#else
    uint4 quad = __ldg((const uint4 *)at);
    return Quad{{quad.x, quad.y, quad.z, quad.w}};
#endif
}

DEVICE u32 byte_in(const Quad &quad, int index) { return quad.word[index >> 2] >> (8 * (index & 3)) & 255u; }

// NV12 to 8-bit channels without scaling, as used by readers. Sides and addresses are multiples of 16, except for
// the height. Block: 32 x 8 threads, each 16 x 2 pixels of one frame (grid z).
KERNEL(convert_nv12_u8, ConvertParams) {
    const Image &image = p.image[blockIdx.z];
    u32 x = (blockIdx.x * 32 + threadIdx.x) * 16, y = (blockIdx.y * 8 + threadIdx.y) * 2;
    if (x >= p.out_width || y >= p.out_height) return;
    Quad chroma = load_quad(image.component[1] + (u64)(y >> 1) * image.pitch[1] + x);
    u64 plane = (u64)p.out_width * p.out_height;
    for (u32 row = y; row < y + 2 && row < p.out_height; row++) {
        Quad luma = load_quad(image.component[0] + (u64)row * image.pitch[0] + x);
        // Twelve words: sixteen pixels, one channel after another or interleaved.
        u32 word[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < 16; i++) {
            int code[3] = {(int)byte_in(luma, i), (int)byte_in(chroma, i & ~1), (int)byte_in(chroma, i | 1)};
            float sample[3] = {(float)code[0], (float)code[1], (float)code[2]};
#pragma unroll
            for (int channel = 0; channel < 3; channel++) {
                const ChannelMix &mix = p.mix[channel];
                float value = mix.gain[0] * sample[0] + mix.gain[1] * sample[1] + mix.gain[2] * sample[2] + mix.bias;
                u32 byte = p.use_fast ? fast_channel(p.fast, p.blue_first ? 2 - channel : channel, code[0], code[1], code[2])
                                      : to_byte(clamp_float(value, 0.0f, 255.0f));
                // Only words indexed by compile-time constants stay in registers, so both layouts are written out.
                if (p.interleaved) word[(i * 3 + channel) >> 2] |= byte << (8 * ((i * 3 + channel) & 3));
                else word[channel * 4 + (i >> 2)] |= byte << (8 * (i & 3));
            }
        }
        u64 pixel = (u64)row * p.out_width + x;
#pragma unroll
        for (int i = 0; i < 3; i++) {
            u64 at = image.out + (p.interleaved ? pixel * 3 + i * 16 : i * plane + pixel);
            *(Quad *)at = Quad{{word[i * 4], word[i * 4 + 1], word[i * 4 + 2], word[i * 4 + 3]}};
        }
    }
}
