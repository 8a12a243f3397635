// Augments a batch: crop, resize, flip, colour, grey, blur, normalisation, erasing. Order and formulas are documented in
// framerail-core's augment.rs; results match framerail-vision's augment within rounding.

#include "common.cuh"

#define MAX_PICTURES 40

enum Step { STEP_NONE = 0, STEP_BRIGHTNESS = 1, STEP_CONTRAST = 2, STEP_SATURATION = 3, STEP_HUE = 4 };

struct Image {
    u64 input, output;
    // Three planes of floats, then three more; for blurred images.
    u64 planes;
    // Grey sums, one double per tile; for images whose contrast changes.
    u64 sums;
    u16 crop_x, crop_y, crop_width, crop_height;
    u16 erase_x, erase_y, erase_width, erase_height;
    float fill[3];
    float amount[4];
    u8 step[4];
    u8 antialias, flip_x, flip_y, grayscale;
    // Width and height of the blur kernel; 0 for none.
    u16 kernel[2];
    float sigma[2];
};

struct AugmentParams {
    u32 in_width, in_height, out_width, out_height;
    // element = value * gain + shift.
    float gain[3];
    float shift[3];
    u32 tiles;
    u8 in_type, in_interleaved, out_type, out_interleaved;
    Image image[MAX_PICTURES];
};

static_assert(sizeof(Image) == 96, "as in augment.rs");
static_assert(sizeof(AugmentParams) == 48 + 96 * MAX_PICTURES && sizeof(AugmentParams) <= 4096, "as in augment.rs");

// Block: 32 x 8 threads, 32 x 32 pixels.
#define TILE 32
#define BLOCK_ROWS 8
#define THREADS 256
#define MAX_KERNEL 127

struct Color {
    float channel[3];
};

DEVICE float grey_of(const Color &color) { return color.channel[0] * 0.2989f + color.channel[1] * 0.587f + color.channel[2] * 0.114f; }
DEVICE float unit(float value) { return clamp_float(value, 0.0f, 1.0f); }

// The source pixels of one output position of an axis.
struct Tap {
    u32 first, count;
    // Weights of the nearest two, if `narrow` is 0.
    float weight[2];
    // For a triangle: distance of the first pixel from the centre, reciprocal of the reach, reciprocal of the sum of weights.
    float lead, narrow, part;
};

DEVICE Tap nearest_two(double center, u32 pixels) {
    double at = clamp_double(center - 0.5, 0.0, (double)(pixels - 1)), whole = floor(at);
    float part = (float)(at - whole);
    return Tap{(u32)whole, part == 0.0f ? 1u : 2u, {1.0f - part, part}, 0.0f, 0.0f, 0.0f};
}

DEVICE float triangle(const Tap &tap, u32 index) {
    float weight = 1.0f - fabsf(tap.lead + (float)index) * tap.narrow;
    return weight > 0.0f ? weight : 0.0f;
}

DEVICE Tap tap_of(u32 position, u32 pixels, u32 out, bool flip, bool antialias) {
    double scale = (double)pixels / (double)out;
    double center = ((double)(flip ? out - 1 - position : position) + 0.5) * scale;
    if (!antialias || scale <= 1.0) return nearest_two(center, pixels);
    double first = center - scale + 0.5, end = floor(center + scale + 0.5);
    first = first > 0.0 ? floor(first) : 0.0;
    end = end < (double)pixels ? end : (double)pixels;
    Tap tap = {(u32)first, (u32)(end - first), {0.0f, 0.0f}, (float)(first + 0.5 - center), (float)(1.0 / scale), 0.0f};
    float sum = 0.0f;
    for (u32 index = 0; index < tap.count; index++) sum += triangle(tap, index);
    tap.part = 1.0f / sum;
    return tap;
}

DEVICE float weight_of(const Tap &tap, u32 index) { return tap.narrow == 0.0f ? tap.weight[index] : triangle(tap, index) * tap.part; }

// `at` is the pixel's index within the image.
DEVICE float sample(const AugmentParams &p, const Image &image, u64 at, u32 channel) {
    u64 index = p.in_interleaved ? at * 3 + channel : (u64)channel * p.in_width * p.in_height + at;
    return p.in_type == TYPE_U8 ? (float)__ldg((const u8 *)image.input + index) : __ldg((const float *)image.input + index);
}

DEVICE Color resampled(const AugmentParams &p, const Image &image, const Tap &across, const Tap &down) {
    Color color = {{0.0f, 0.0f, 0.0f}};
    for (u32 row = 0; row < down.count; row++) {
        u64 start = (u64)(image.crop_y + down.first + row) * p.in_width + image.crop_x + across.first;
        float row_weight = weight_of(down, row);
        for (u32 column = 0; column < across.count; column++) {
            float weight = row_weight * weight_of(across, column);
            for (u32 channel = 0; channel < 3; channel++) color.channel[channel] += sample(p, image, start + column, channel) * weight;
        }
    }
    float scale = p.in_type == TYPE_U8 ? 1.0f / 255.0f : 1.0f;
    for (u32 channel = 0; channel < 3; channel++) color.channel[channel] *= scale;
    return color;
}

// The taps of the block's rows, computed once for all of its columns because they need double precision. All threads must call this.
DEVICE const Tap *rows_of(const AugmentParams &p, const Image &image) {
    __shared__ Tap rows[TILE];
    u32 thread = threadIdx.y * TILE + threadIdx.x, y = blockIdx.y * TILE + thread;
    if (thread < TILE && y < p.out_height) rows[thread] = tap_of(y, image.crop_height, p.out_height, image.flip_y, image.antialias);
    __syncthreads();
    return rows;
}

DEVICE void mix(Color &color, float factor, float addend) {
    for (u32 channel = 0; channel < 3; channel++) color.channel[channel] = unit(color.channel[channel] * factor + addend);
}

// Channel n is value - chroma * max(0, min(k, 4 - k, 1)), k = (n + 6 hue) mod 6, n = 5, 3, 1.
DEVICE void turn_hue(Color &color, float turns) {
    float red = color.channel[0], green = color.channel[1], blue = color.channel[2];
    float value = fmaxf(fmaxf(red, green), blue), chroma = value - fminf(fminf(red, green), blue);
    float part = chroma > 0.0f ? 1.0f / chroma : 0.0f;
    float sixth = value == red     ? (green - blue) * part
                  : value == green ? (blue - red) * part + 2.0f
                                   : (red - green) * part + 4.0f;
    float turned = sixth + turns * 6.0f + 12.0f;
    for (u32 channel = 0; channel < 3; channel++) {
        float k = 5.0f - 2.0f * (float)channel + turned;
        k -= 6.0f * floorf(k * (1.0f / 6.0f));
        color.channel[channel] = value - chroma * unit(fminf(k, 4.0f - k));
    }
}

// Applies the steps before contrast, or all of them with the mean grey that contrast needs.
DEVICE void adjust(const Image &image, Color &color, bool before_contrast, float mean) {
    for (u32 index = 0; index < 4; index++) {
        float amount = image.amount[index];
        switch (image.step[index]) {
        case STEP_BRIGHTNESS: mix(color, amount, 0.0f); break;
        case STEP_CONTRAST:
            if (before_contrast) return;
            mix(color, amount, mean * (1.0f - amount));
            break;
        case STEP_SATURATION: mix(color, amount, grey_of(color) * (1.0f - amount)); break;
        case STEP_HUE: turn_hue(color, amount); break;
        default: break;
        }
    }
}

// The sum of all threads' values, returned to every thread of the block. The order of additions is fixed.
DEVICE double sum_of_block(double value) {
    __shared__ double sums[THREADS];
    u32 thread = threadIdx.y * TILE + threadIdx.x;
    sums[thread] = value;
    __syncthreads();
    for (u32 half = THREADS / 2; half > 0; half /= 2) {
        if (thread < half) sums[thread] += sums[thread + half];
        __syncthreads();
    }
    return sums[0];
}

// One double per tile: the sum of grey before contrast.
KERNEL(sum_grey, AugmentParams) {
    const Image &image = p.image[blockIdx.z];
    const Tap *rows = rows_of(p, image);
    u32 x = blockIdx.x * TILE + threadIdx.x;
    double sum = 0.0;
    if (x < p.out_width) {
        Tap across = tap_of(x, image.crop_width, p.out_width, image.flip_x, image.antialias);
        for (u32 row = threadIdx.y; row < TILE; row += BLOCK_ROWS) {
            u32 y = blockIdx.y * TILE + row;
            if (y >= p.out_height) break;
            Color color = resampled(p, image, across, rows[row]);
            adjust(image, color, true, 0.0f);
            sum += (double)grey_of(color);
        }
    }
    sum = sum_of_block(sum);
    if (threadIdx.x == 0 && threadIdx.y == 0) ((double *)image.sums)[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

DEVICE void store(const AugmentParams &p, const Image &image, u32 x, u32 y, u32 channel, float value) {
    float element = value * p.gain[channel] + p.shift[channel];
    if (x - image.erase_x < image.erase_width && y - image.erase_y < image.erase_height) element = image.fill[channel];
    u64 at = (u64)y * p.out_width + x, index = p.out_interleaved ? at * 3 + channel : (u64)channel * p.out_width * p.out_height + at;
    store_one(p.out_type, image.output, index, element);
}

// All steps except the blur: to the output, or to planes that are blurred next.
KERNEL(augment_pixels, AugmentParams) {
    const Image &image = p.image[blockIdx.z];
    float mean = 0.0f;
    if (image.sums) {
        double sum = 0.0;
        for (u32 tile = threadIdx.y * TILE + threadIdx.x; tile < p.tiles; tile += THREADS) {
            sum += load_changing((const double *)image.sums + tile);
        }
        mean = (float)(sum_of_block(sum) / ((double)p.out_width * (double)p.out_height));
    }
    const Tap *rows = rows_of(p, image);
    u32 x = blockIdx.x * TILE + threadIdx.x;
    if (x >= p.out_width) return;
    Tap across = tap_of(x, image.crop_width, p.out_width, image.flip_x, image.antialias);
    for (u32 row = threadIdx.y; row < TILE; row += BLOCK_ROWS) {
        u32 y = blockIdx.y * TILE + row;
        if (y >= p.out_height) return;
        Color color = resampled(p, image, across, rows[row]);
        adjust(image, color, false, mean);
        if (image.grayscale) color.channel[0] = color.channel[1] = color.channel[2] = grey_of(color);
        for (u32 channel = 0; channel < 3; channel++) {
            if (image.kernel[0] == 0) {
                store(p, image, x, y, channel, color.channel[channel]);
            } else {
                ((float *)image.planes)[((u64)channel * p.out_height + y) * p.out_width + x] = color.channel[channel];
            }
        }
    }
}

// Weights exp(-d^2 / 2 sigma^2), normalised to sum 1; all threads of the block must call this.
DEVICE void find_weights(float *weights, u32 kernel, float sigma) {
    __shared__ double shares[MAX_KERNEL + 1];
    u32 thread = threadIdx.y * TILE + threadIdx.x;
    if (thread < kernel) {
        double distance = ((double)thread - (double)(kernel / 2)) / (double)sigma;
        shares[thread] = exp(-(distance * distance) / 2.0);
    }
    __syncthreads();
    if (thread < kernel) {
        double sum = 0.0;
        for (u32 place = 0; place < kernel; place++) sum += shares[place];
        weights[thread] = (float)(shares[thread] / sum);
    }
    __syncthreads();
}

DEVICE u32 mirrored(int position, int side) {
    position = position < 0 ? -position : position;
    return (u32)(position < side ? position : 2 * (side - 1) - position);
}

// Blurs planes horizontally into the second set of planes. Grid z: image and channel.
KERNEL(blur_across, AugmentParams) {
    __shared__ float weights[MAX_KERNEL + 1];
    const Image &image = p.image[blockIdx.z / 3];
    u32 kernel = image.kernel[0], channel = blockIdx.z % 3, x = blockIdx.x * TILE + threadIdx.x;
    find_weights(weights, kernel, image.sigma[0]);
    if (x >= p.out_width) return;
    const float *from = (const float *)image.planes + (u64)channel * p.out_height * p.out_width;
    float *to = (float *)image.planes + (u64)(channel + 3) * p.out_height * p.out_width;
    for (u32 row = threadIdx.y; row < TILE; row += BLOCK_ROWS) {
        u32 y = blockIdx.y * TILE + row;
        if (y >= p.out_height) return;
        float sum = 0.0f;
        for (u32 place = 0; place < kernel; place++) {
            u32 column = mirrored((int)(x + place) - (int)(kernel / 2), (int)p.out_width);
            sum += load_changing(from + (u64)y * p.out_width + column) * weights[place];
        }
        to[(u64)y * p.out_width + x] = sum;
    }
}

// Blurs the horizontally blurred planes vertically into the output.
KERNEL(blur_down, AugmentParams) {
    __shared__ float weights[MAX_KERNEL + 1];
    const Image &image = p.image[blockIdx.z / 3];
    u32 kernel = image.kernel[1], channel = blockIdx.z % 3, x = blockIdx.x * TILE + threadIdx.x;
    find_weights(weights, kernel, image.sigma[1]);
    if (x >= p.out_width) return;
    const float *from = (const float *)image.planes + (u64)(channel + 3) * p.out_height * p.out_width;
    for (u32 row = threadIdx.y; row < TILE; row += BLOCK_ROWS) {
        u32 y = blockIdx.y * TILE + row;
        if (y >= p.out_height) return;
        float sum = 0.0f;
        for (u32 place = 0; place < kernel; place++) {
            u32 line = mirrored((int)(y + place) - (int)(kernel / 2), (int)p.out_height);
            sum += load_changing(from + (u64)line * p.out_width + x) * weights[place];
        }
        store(p, image, x, y, channel, sum);
    }
}
