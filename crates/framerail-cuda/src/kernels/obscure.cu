// Hides regions in place: blur, mosaic and solid colour under soft masks, many regions in one launch.

#include "samples.cuh"

#define MAX_REGIONS 15
#define THREADS 1024

enum Shape { RECTANGLE = 0, ELLIPSE = 1, RASTER = 2 };
enum Fill { SOLID = 0, BLUR = 1, MOSAIC = 2 };

// Blur along one axis of a component: averages groups of `step` samples, applies three box filters, interpolates back linearly.
struct AxisBlur {
    u32 step;
    u32 width[3];
};

// The replacement for one component's samples.
struct ComponentFill {
    // The samples that are read.
    u16 x, y, width, height;
    AxisBlur across, down;
};

struct Region {
    u64 component[3];
    // Scratch memory for the block of a component: two planes of shrunk samples, or the sums and then means of cells.
    u64 scratch[3];
    // For a raster: one byte per pixel, row by row.
    u64 coverage;
    double center_x, center_y;
    // Half width and height, or the half axes (across, along).
    double half[2];
    double cosine, sine;
    double feather;
    // Inverse squares of the half axes of the ellipse that bounds the soft edge, and of the ellipse itself.
    double reached[2], inside[2];
    u32 pitch[2];
    // The pixels that may be covered.
    u16 x, y, width, height;
    float code[3];
    // Origin of a mosaic's cells, in pixels.
    int origin_x, origin_y;
    u32 cell;
    // For luma and chroma.
    ComponentFill fill[2];
};

struct ObscureParams {
    u8 step[2];
    u8 sample_bytes;
    u8 value_shift;
    u8 chroma_shift_x, chroma_shift_y;
    u8 shape, kind;
    float max_value;
    u32 unused;
    Region region[MAX_REGIONS];
};

static_assert(sizeof(Region) == 264, "as in obscure.rs");
static_assert(sizeof(ObscureParams) == 16 + 264 * MAX_REGIONS && sizeof(ObscureParams) <= 4096, "as in obscure.rs");

// The part of a row at `y` from the centre that lies inside a shape with these inverse squares.
struct Span {
    double from, to;
};

DEVICE Span span_of(const ObscureParams &p, const Region &region, double y, const double *squares, double reach) {
    if (p.shape == RECTANGLE) {
        if (fabs(y) > region.half[1] + reach) return Span{0.0, -1.0};
        return Span{-region.half[0] - reach, region.half[0] + reach};
    }
    double cosine = region.cosine, sine = region.sine;
    double a = cosine * cosine * squares[0] + sine * sine * squares[1];
    double b = y * cosine * sine * (squares[0] - squares[1]);
    double discriminant = b * b - a * (y * y * (sine * sine * squares[0] + cosine * cosine * squares[1]) - 1.0);
    if (discriminant < 0.0) return Span{0.0, -1.0};
    double root = sqrt(discriminant);
    return Span{(-b - root) / a, (-b + root) / a};
}

// First and last column of the region whose centre lies in a span; `dx` is the centre of the first column.
struct Columns {
    int first, last;
};

DEVICE Columns columns_of(const Region &region, const Span &span, double dx) {
    if (!(span.to >= span.from)) return Columns{0, -1};
    return Columns{(int)ceil(clamp_double(span.from - dx, -1.0, (double)region.width)),
                   (int)floor(clamp_double(span.to - dx, -1.0, (double)region.width))};
}

// Coverage of a row of pixels, computed once for all of them.
struct RowMask {
    Columns inside, reached;
    // Offset from the outline's centre: of the region's first column, of the row.
    double dx, dy;
    // For a raster.
    const u8 *coverage;
};

DEVICE RowMask row_mask(const ObscureParams &p, const Region &region, u32 y) {
    if (p.shape == RASTER) {
        const u8 *coverage = (const u8 *)region.coverage + (u64)(y - region.y) * region.width;
        return RowMask{Columns{0, -1}, Columns{0, -1}, 0.0, 0.0, coverage};
    }
    double dx = (double)region.x + 0.5 - region.center_x, dy = (double)y + 0.5 - region.center_y;
    Span inside = span_of(p, region, dy, region.inside, 0.0);
    // Half a pixel: every pixel that the outline touches counts as inside.
    Span reached = span_of(p, region, dy, region.reached, region.feather + 0.5);
    return RowMask{columns_of(region, inside, dx), columns_of(region, reached, dx), dx, dy, nullptr};
}

// Distance from the outline in pixels (first-order approximation for ellipses); 0 or less inside.
DEVICE double distance_to(const ObscureParams &p, const Region &region, double x, double y) {
    if (p.shape == RECTANGLE) {
        double dx = fabs(x) - region.half[0], dy = fabs(y) - region.half[1];
        dx = dx > 0.0 ? dx : 0.0;
        dy = dy > 0.0 ? dy : 0.0;
        return sqrt(dx * dx + dy * dy);
    }
    double u = (x * region.cosine + y * region.sine) / region.half[0], v = (y * region.cosine - x * region.sine) / region.half[1];
    double radius = sqrt(u * u + v * v);
    double slope_u = u / region.half[0], slope_v = v / region.half[1];
    double slope = sqrt(slope_u * slope_u + slope_v * slope_v);
    return slope > 0.0 ? (radius - 1.0) * radius / slope : 0.0;
}

// Coverage of one column of a row, 0 to 255.
DEVICE u32 coverage_in(const ObscureParams &p, const Region &region, const RowMask &row, int column) {
    if (p.shape == RASTER) return __ldg(row.coverage + column);
    if (column >= row.inside.first && column <= row.inside.last) return 255u;
    if (column < row.reached.first || column > row.reached.last) return 0u;
    double distance = distance_to(p, region, (double)column + row.dx, row.dy) - 0.5;
    if (distance <= 0.0) return 255u;
    if (distance >= region.feather) return 0u;
    double t = 1.0 - distance / region.feather;
    return (u32)floor(255.0 * t * t * (3.0 - 2.0 * t) + 0.5);
}

// One component of one region.
struct Plane {
    Samples samples;
    u32 shift_x, shift_y;
    // The area that may be covered, in samples.
    u32 x, y, width, height;
};

DEVICE Plane plane_of(const ObscureParams &p, const Region &region, int component) {
    int other = component > 0;
    u32 shift_x = other ? p.chroma_shift_x : 0u, shift_y = other ? p.chroma_shift_y : 0u;
    u32 x = (u32)region.x >> shift_x, y = (u32)region.y >> shift_y;
    u32 right = ((u32)region.x + region.width + (1u << shift_x) - 1u) >> shift_x;
    u32 bottom = ((u32)region.y + region.height + (1u << shift_y) - 1u) >> shift_y;
    Samples samples = {region.component[component], region.pitch[other], p.step[other], p.sample_bytes, p.value_shift, p.max_value};
    return Plane{samples, shift_x, shift_y, x, y, right - x, bottom - y};
}

// Calls `paint(x, y, coverage)` for every covered sample, with the maximum coverage of its pixels. Each warp handles a row.
template <typename Paint> DEVICE void paint_covered(const ObscureParams &p, const Region &region, const Plane &plane, Paint paint) {
    int right = (int)region.width;
    u32 bottom = (u32)region.y + region.height;
    for (u32 row = threadIdx.x / 32; row < plane.height; row += THREADS / 32) {
        u32 y = plane.y + row, first = y << plane.shift_y, end = (y + 1) << plane.shift_y;
        first = first > region.y ? first : region.y;
        end = end < bottom ? end : bottom;
        // No format has more than two rows per sample.
        RowMask upper = row_mask(p, region, first), lower = end - first > 1 ? row_mask(p, region, first + 1) : upper;
        for (u32 column = threadIdx.x % 32; column < plane.width; column += 32) {
            u32 x = plane.x + column, most = 0;
            for (u32 px = x << plane.shift_x; px < (x + 1) << plane.shift_x; px++) {
                int at = (int)px - (int)region.x;
                if (at < 0 || at >= right) continue;
                u32 coverage = coverage_in(p, region, upper, at);
                most = most > coverage ? most : coverage;
                if (end - first > 1) coverage = coverage_in(p, region, lower, at);
                most = most > coverage ? most : coverage;
            }
            if (most > 0) paint(x, y, most);
        }
    }
}

// Means of the patch's cells; those at the right and bottom edge may be smaller.
DEVICE void shrink(const Plane &plane, const ComponentFill &fill, u32 width, u32 height, float *out) {
    u32 step_x = fill.across.step, step_y = fill.down.step;
    for (u32 i = threadIdx.x; i < width * height; i += THREADS) {
        u32 left = i % width * step_x, top = i / width * step_y;
        u32 columns = step_x < fill.width - left ? step_x : fill.width - left;
        u32 rows = step_y < fill.height - top ? step_y : fill.height - top;
        u64 sum = 0;
        for (u32 y = 0; y < rows; y++) {
            for (u32 x = 0; x < columns; x++) sum += code_at(plane.samples, fill.x + left + x, fill.y + top + y);
        }
        out[i] = (float)sum / (float)(columns * rows);
    }
}

// A box filter of `width` (odd) over each line, repeating its ends. Values of a line are `stride` apart, lines are `next` apart.
DEVICE void average_lines(const float *in, float *out, u32 lines, u32 length, u32 next, u32 stride, u32 width) {
    int radius = (int)width / 2, last = (int)length - 1;
    // Threads share a line in stretches, long enough that computing each first sum does not dominate.
    u32 stretch = width / 2 > 16 ? width / 2 : 16;
    u32 stretches = (length + stretch - 1) / stretch;
    for (u32 i = threadIdx.x; i < lines * stretches; i += THREADS) {
        u32 line = i % lines, first = i / lines * stretch;
        u32 end = first + stretch < length ? first + stretch : length;
        const float *from = in + (u64)line * next;
        float *to = out + (u64)line * next;
        int low = (int)first - radius, high = (int)first + radius;
        float sum = 0.0f;
        if (low < 0) sum += (float)((high < 0 ? high + 1 : 0) - low) * from[0];
        if (high > last) sum += (float)(high - (low > last ? low - 1 : last)) * from[(u64)last * stride];
        for (int at = low < 0 ? 0 : low; at <= (high < last ? high : last); at++) sum += from[(u64)at * stride];
        for (u32 at = first; at < end; at++) {
            to[(u64)at * stride] = sum / (float)width;
            int entering = clamp_int((int)at + radius + 1, 0, last), leaving = clamp_int((int)at - radius, 0, last);
            sum += from[(u64)entering * stride] - from[(u64)leaving * stride];
        }
    }
}

// The two shrunk values around a sample.
struct Between {
    u32 first, second;
    float weight;
};

DEVICE Between between(u32 sample, u32 origin, u32 step, u32 cells) {
    float at = ((float)(sample - origin) + 0.5f) / (float)step - 0.5f;
    at = clamp_float(at, 0.0f, (float)(cells - 1));
    u32 first = (u32)at;
    return Between{first, first + 1 < cells ? first + 1 : cells - 1, at - (float)first};
}

DEVICE void hide_by_blur(const ObscureParams &p, const Region &region, const Plane &plane, int component) {
    const ComponentFill &fill = region.fill[component > 0];
    u32 width = (fill.width + fill.across.step - 1) / fill.across.step, height = (fill.height + fill.down.step - 1) / fill.down.step;
    float *values = (float *)region.scratch[component], *other = values + (u64)width * height;
    shrink(plane, fill, width, height, values);
    __syncthreads();
    for (int pass = 0; pass < 6; pass++) {
        bool rows = pass < 3;
        u32 window = rows ? fill.across.width[pass] : fill.down.width[pass - 3];
        if (window <= 1) continue;
        if (rows) average_lines(values, other, height, width, width, 1, window);
        else average_lines(values, other, width, height, 1, width, window);
        float *swap = values;
        values = other;
        other = swap;
        __syncthreads();
    }
    paint_covered(p, region, plane, [&](u32 x, u32 y, u32 coverage) {
        Between across = between(x, fill.x, fill.across.step, width), down = between(y, fill.y, fill.down.step, height);
        const float *upper = values + (u64)down.first * width, *lower = values + (u64)down.second * width;
        float near = upper[across.first] + (lower[across.first] - upper[across.first]) * down.weight;
        float far = upper[across.second] + (lower[across.second] - upper[across.second]) * down.weight;
        blend(plane.samples, x, y, near + (far - near) * across.weight, coverage);
    });
}

DEVICE int cell_of(u32 sample, u32 shift, int origin, u32 cell) {
    int at = (int)(sample << shift) - origin;
    int quotient = at / (int)cell;
    return at % (int)cell < 0 ? quotient - 1 : quotient;
}

DEVICE void hide_by_mosaic(const ObscureParams &p, const Region &region, const Plane &plane, int component) {
    const ComponentFill &fill = region.fill[component > 0];
    int left = cell_of(fill.x, plane.shift_x, region.origin_x, region.cell), top = cell_of(fill.y, plane.shift_y, region.origin_y, region.cell);
    u32 across = (u32)(cell_of(fill.x + fill.width - 1, plane.shift_x, region.origin_x, region.cell) - left) + 1;
    u32 down = (u32)(cell_of(fill.y + fill.height - 1, plane.shift_y, region.origin_y, region.cell) - top) + 1;
    // Sum and count of each cell.
    u64 *cells = (u64 *)region.scratch[component];
    for (u32 i = threadIdx.x; i < 2 * across * down; i += THREADS) cells[i] = 0;
    __syncthreads();
    // Each thread takes a stretch of a row, so that few of them contend for a cell.
    const u32 stretch = 8;
    u32 stretches = (fill.width + stretch - 1) / stretch;
    for (u32 i = threadIdx.x; i < stretches * fill.height; i += THREADS) {
        u32 y = fill.y + i / stretches, first = i % stretches * stretch;
        u32 end = first + stretch < fill.width ? first + stretch : fill.width;
        u32 row = (u32)(cell_of(y, plane.shift_y, region.origin_y, region.cell) - top) * across;
        u32 current = 0xffffffffu;
        u64 sum = 0, count = 0;
        for (u32 dx = first; dx < end; dx++) {
            u32 cell = row + (u32)(cell_of(fill.x + dx, plane.shift_x, region.origin_x, region.cell) - left);
            if (cell != current && count > 0) {
                atomicAdd(&cells[2 * current], sum);
                atomicAdd(&cells[2 * current + 1], count);
                sum = count = 0;
            }
            current = cell;
            sum += code_at(plane.samples, fill.x + dx, y);
            count++;
        }
        atomicAdd(&cells[2 * current], sum);
        atomicAdd(&cells[2 * current + 1], count);
    }
    __syncthreads();
    paint_covered(p, region, plane, [&](u32 x, u32 y, u32 coverage) {
        u32 cell = (u32)(cell_of(y, plane.shift_y, region.origin_y, region.cell) - top) * across +
                   (u32)(cell_of(x, plane.shift_x, region.origin_x, region.cell) - left);
        blend(plane.samples, x, y, (float)((double)cells[2 * cell] / (double)cells[2 * cell + 1]), coverage);
    });
}

// A block hides one component (grid x) of one region (grid y); no other block of the launch writes what it reads.
KERNEL_OF(1024, obscure, ObscureParams) {
    const Region &region = p.region[blockIdx.y];
    int component = (int)blockIdx.x;
    Plane plane = plane_of(p, region, component);
    if (p.kind == BLUR) {
        hide_by_blur(p, region, plane, component);
    } else if (p.kind == MOSAIC) {
        hide_by_mosaic(p, region, plane, component);
    } else {
        paint_covered(p, region, plane, [&](u32 x, u32 y, u32 coverage) { blend(plane.samples, x, y, region.code[component], coverage); });
    }
}
