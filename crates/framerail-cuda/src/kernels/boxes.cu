// Decodes model outputs to boxes: score threshold, box decoding of what passes, sorting, non-maximum suppression.

#include "common.cuh"

// Maximum number of candidates stored per frame, and of those that enter suppression. As in boxes.rs.
#define CAPACITY 8192
#define MAX_CANDIDATES 5000
#define THREADS 1024
// Items per block in find_candidates, and scores cached in shared memory: of at least MIN_STAGED_ROWS anchors, or of none.
#define BLOCK_ITEMS 256
#define STAGED_SCORES 8192
#define MIN_STAGED_ROWS 32
#define MAX_POINTS 5

enum Family { ANCHORS = 0, HEATMAP = 1, ANCHOR_FREE = 2 };
enum Activation { NONE = 0, SIGMOID = 1, SOFTMAX = 2 };
enum BoxForm { XYXY = 0, YXYX = 1, CXCYWH = 2, XYWH = 3 };

struct BoxesParams {
    // Anchors: offsets, scores, landmarks, anchors (always f32: x, y, width, height). Heatmap: scores, sizes, offsets, landmarks.
    // Anchor-free: the output. 0 for absent tensors.
    u64 tensor[4];
    u64 counters;
    u64 candidates;
    u64 results;
    // Items to check per frame: anchors, cells of all classes, or boxes.
    u32 items;
    // Scores per anchor including background; values per anchor-free box.
    u32 columns;
    u32 classes;
    u32 points;
    // Width and height of a heatmap.
    u32 grid_width, grid_height;
    u32 max_detections;
    // Column of the background class, or -1.
    int background;
    float input_width, input_height;
    float confidence, iou;
    float variance[4];
    float stride, cell_origin;
    u8 family;
    u8 is_half;
    u8 activation;
    u8 form;
    u8 normalized;
    u8 objectness;
    u8 values_first;
    u8 point_values;
    u8 y_first;
    u8 exponential_size;
    u8 class_agnostic;
    u8 unused[5];
};

struct Counters {
    // Number of candidates, and of candidates dropped because score, box or landmarks are not finite.
    u32 found, non_finite;
};

struct Candidate {
    float x1, y1, x2, y2;
    float score;
    u32 class_id;
    u32 index;
    u32 unused;
};

struct Header {
    u32 count, non_finite, over_limit, over_max_detections;
};

struct Found {
    float x1, y1, x2, y2;
    float score;
    u32 class_id;
    u32 index;
    float point[2 * MAX_POINTS];
    u32 unused;
};

static_assert(sizeof(BoxesParams) == 144 && sizeof(Candidate) == 32 && sizeof(Header) == 16 && sizeof(Found) == 72, "as in boxes.rs");

DEVICE bool is_finite(float value) { return (bits_of(value) & 0x7f800000u) != 0x7f800000u; }
DEVICE bool is_nan(float value) { return (bits_of(value) & 0x7fffffffu) > 0x7f800000u; }
DEVICE float sigmoid(float value) { return 1.0f / (1.0f + expf(-value)); }

DEVICE float element(const BoxesParams &p, int tensor, u64 index) {
    if (p.is_half) return from_half(__ldg((const u16 *)p.tensor[tensor] + index));
    return __ldg((const float *)p.tensor[tensor] + index);
}

// One value of an anchor-free box.
DEVICE float box_value(const BoxesParams &p, u32 image, u32 item, u32 value) {
    u64 base = (u64)image * p.items * p.columns;
    return element(p, 0, base + (p.values_first ? (u64)value * p.items + item : (u64)item * p.columns + value));
}

// One value of a heatmap channel.
DEVICE float cell_value(const BoxesParams &p, int tensor, u32 image, u32 channels, u32 channel, u32 cell) {
    u64 cells = (u64)p.grid_width * p.grid_height;
    return element(p, tensor, ((u64)image * channels + channel) * cells + cell);
}

struct Scaling {
    float highest, sum;
};

// Maximum and normalising sum of a softmax over `count` scores; `score(i)` returns each.
template <typename Score> DEVICE Scaling softmax_of(u32 count, Score score) {
    Scaling scaling = {float_of(0xff800000u), 0.0f};
    for (u32 i = 0; i < count; i++) {
        float value = score(i);
        if (value > scaling.highest) scaling.highest = value;
    }
    for (u32 i = 0; i < count; i++) scaling.sum += expf(score(i) - scaling.highest);
    return scaling;
}

DEVICE float activated(const BoxesParams &p, const Scaling &scaling, float score) {
    if (p.activation == SIGMOID) return sigmoid(score);
    return p.activation == SOFTMAX ? expf(score - scaling.highest) / scaling.sum : score;
}

// The best class of an anchor-free box and its score. A NaN score wins, so that it is counted.
DEVICE Candidate best_class(const BoxesParams &p, u32 image, u32 item) {
    u32 first = 4u + p.objectness;
    auto raw = [&](u32 i) { return box_value(p, image, item, first + i); };
    Scaling scaling = {0.0f, 1.0f};
    if (p.activation == SOFTMAX) scaling = softmax_of(p.classes, raw);
    Candidate best = {};
    best.score = float_of(0xff800000u);
    best.index = item;
    for (u32 i = 0; i < p.classes; i++) {
        float score = activated(p, scaling, raw(i));
        if (score > best.score || is_nan(score)) {
            best.score = score;
            best.class_id = i;
        }
    }
    if (p.objectness) {
        float object = box_value(p, image, item, 4);
        best.score *= p.activation == NONE ? object : sigmoid(object);
    }
    return best;
}

DEVICE void set_box(Candidate &candidate, float x1, float y1, float x2, float y2) {
    candidate.x1 = x1;
    candidate.y1 = y1;
    candidate.x2 = x2;
    candidate.y2 = y2;
}

DEVICE bool box_is_finite(const Candidate &candidate) {
    return is_finite(candidate.x1) && is_finite(candidate.y1) && is_finite(candidate.x2) && is_finite(candidate.y2);
}

DEVICE void clamp_box(const BoxesParams &p, Candidate &candidate) {
    if (!box_is_finite(candidate)) return;
    set_box(candidate, clamp_float(candidate.x1, 0.0f, p.input_width), clamp_float(candidate.y1, 0.0f, p.input_height),
            clamp_float(candidate.x2, 0.0f, p.input_width), clamp_float(candidate.y2, 0.0f, p.input_height));
}

struct Point {
    float x, y;
};

// Maximum accepted growth of a box over its anchor, as on the host.
#define MAX_LOG_GROWTH 4.1351666f

DEVICE float growth(float logarithm) { return expf(logarithm > MAX_LOG_GROWTH ? MAX_LOG_GROWTH : logarithm); }

DEVICE void anchor_box(const BoxesParams &p, u32 image, u32 anchor, Candidate &candidate) {
    const float *place = (const float *)p.tensor[3] + 4 * (u64)anchor;
    float x = __ldg(place), y = __ldg(place + 1), width = __ldg(place + 2), height = __ldg(place + 3);
    u64 at = ((u64)image * p.items + anchor) * 4;
    float center_x = x + element(p, 0, at) * p.variance[0] * width, center_y = y + element(p, 0, at + 1) * p.variance[1] * height;
    float w = width * growth(element(p, 0, at + 2) * p.variance[2]), h = height * growth(element(p, 0, at + 3) * p.variance[3]);
    set_box(candidate, center_x - w / 2.0f, center_y - h / 2.0f, center_x + w / 2.0f, center_y + h / 2.0f);
    clamp_box(p, candidate);
}

DEVICE Point anchor_point(const BoxesParams &p, u32 image, u32 anchor, u32 point) {
    const float *place = (const float *)p.tensor[3] + 4 * (u64)anchor;
    u64 at = ((u64)image * p.items + anchor) * 2 * p.points + 2 * point;
    return Point{__ldg(place) + element(p, 2, at) * p.variance[0] * __ldg(place + 2),
                 __ldg(place + 1) + element(p, 2, at + 1) * p.variance[1] * __ldg(place + 3)};
}

// x and y from a pair of channels.
DEVICE Point cell_pair(const BoxesParams &p, int tensor, u32 image, u32 channels, u32 first, u32 cell) {
    float a = cell_value(p, tensor, image, channels, first, cell), b = cell_value(p, tensor, image, channels, first + 1, cell);
    return p.y_first ? Point{b, a} : Point{a, b};
}

// The box before clamping to the right and bottom edge of the input; landmarks are relative to it.
DEVICE void cell_box(const BoxesParams &p, u32 image, u32 cell, Candidate &candidate) {
    Point size = cell_pair(p, 1, image, 2, 0, cell);
    Point shift = p.tensor[2] ? cell_pair(p, 2, image, 2, 0, cell) : Point{0.0f, 0.0f};
    float width = (p.exponential_size ? expf(size.x) : size.x) * p.stride, height = (p.exponential_size ? expf(size.y) : size.y) * p.stride;
    float x1 = ((float)(cell % p.grid_width) + shift.x + p.cell_origin) * p.stride - width / 2.0f;
    float y1 = ((float)(cell / p.grid_width) + shift.y + p.cell_origin) * p.stride - height / 2.0f;
    x1 = clamp_float(x1, 0.0f, p.input_width);
    y1 = clamp_float(y1, 0.0f, p.input_height);
    set_box(candidate, x1, y1, x1 + width, y1 + height);
}

DEVICE void free_box(const BoxesParams &p, u32 image, u32 item, Candidate &candidate) {
    float a = box_value(p, image, item, 0), b = box_value(p, image, item, 1);
    float c = box_value(p, image, item, 2), d = box_value(p, image, item, 3);
    if (p.form == YXYX) set_box(candidate, b, a, d, c);
    else if (p.form == CXCYWH) set_box(candidate, a - c / 2.0f, b - d / 2.0f, a + c / 2.0f, b + d / 2.0f);
    else if (p.form == XYWH) set_box(candidate, a, b, a + c, b + d);
    else set_box(candidate, a, b, c, d);
    if (!p.normalized) return;
    set_box(candidate, candidate.x1 * p.input_width, candidate.y1 * p.input_height, candidate.x2 * p.input_width, candidate.y2 * p.input_height);
}

// The source of a score index: an anchor, a cell or a box.
DEVICE u32 source_of(const BoxesParams &p, u32 index) {
    if (p.family == ANCHORS) return index / p.columns;
    return p.family == HEATMAP ? index % (p.grid_width * p.grid_height) : index;
}

// One landmark of a candidate.
DEVICE Point point_of(const BoxesParams &p, u32 image, const Candidate &candidate, u32 point) {
    u32 source = source_of(p, candidate.index);
    if (p.family == ANCHORS) return anchor_point(p, image, source, point);
    if (p.family == HEATMAP) {
        Candidate whole;
        cell_box(p, image, source, whole);
        Point part = cell_pair(p, 3, image, 2 * p.points, 2 * point, source);
        return Point{whole.x1 + part.x * (whole.x2 - whole.x1), whole.y1 + part.y * (whole.y2 - whole.y1)};
    }
    u32 at = p.columns - p.points * p.point_values + point * p.point_values;
    float across = p.normalized ? p.input_width : 1.0f, down = p.normalized ? p.input_height : 1.0f;
    return Point{box_value(p, image, source, at) * across, box_value(p, image, source, at + 1) * down};
}

// Fills in the box of a candidate. Returns whether the box and its landmarks are finite.
DEVICE bool decode(const BoxesParams &p, u32 image, Candidate &candidate) {
    u32 source = source_of(p, candidate.index);
    if (p.family == ANCHORS) anchor_box(p, image, source, candidate);
    else if (p.family == HEATMAP) cell_box(p, image, source, candidate);
    else free_box(p, image, source, candidate);
    if (!box_is_finite(candidate)) return false;
    if (p.family == HEATMAP) clamp_box(p, candidate);
    for (u32 i = 0; i < p.points; i++) {
        Point point = point_of(p, image, candidate, i);
        if (!is_finite(point.x) || !is_finite(point.y)) return false;
    }
    return true;
}

// Calls `take` if the score passes and the candidate decodes to finite values, `drop` if it passes but is not finite.
template <typename Take, typename Drop> DEVICE void consider(const BoxesParams &p, u32 image, Candidate &candidate, Take take, Drop drop) {
    if (!(candidate.score > p.confidence) && !is_nan(candidate.score)) return;
    if (is_finite(candidate.score) && decode(p, image, candidate)) take(candidate);
    else drop();
}

// All candidates of an anchor; `raw(i)` returns its scores.
template <typename Raw, typename Take, typename Drop>
DEVICE void anchor_candidates(const BoxesParams &p, u32 image, u32 item, Raw raw, Take take, Drop drop) {
    Candidate candidate = {};
    Scaling scaling = {0.0f, 1.0f};
    if (p.activation == SOFTMAX) scaling = softmax_of(p.columns, raw);
    for (u32 column = 0; column < p.columns; column++) {
        if ((int)column == p.background) continue;
        candidate.class_id = p.background >= 0 && (int)column > p.background ? column - 1 : column;
        candidate.index = item * p.columns + column;
        candidate.score = activated(p, scaling, raw(column));
        consider(p, image, candidate, take, drop);
    }
}

// All candidates of one item.
template <typename Take, typename Drop> DEVICE void candidates_of(const BoxesParams &p, u32 image, u32 item, Take take, Drop drop) {
    Candidate candidate = {};
    if (p.family == ANCHOR_FREE) {
        candidate = best_class(p, image, item);
        consider(p, image, candidate, take, drop);
        return;
    }
    if (p.family == HEATMAP) {
        candidate.index = item;
        candidate.class_id = item / (p.grid_width * p.grid_height);
        candidate.score = element(p, 0, (u64)image * p.items + item);
        consider(p, image, candidate, take, drop);
        return;
    }
    u64 row = ((u64)image * p.items + item) * p.columns;
    anchor_candidates(p, image, item, [&](u32 i) { return element(p, 1, row + i); }, take, drop);
}

// Finds the candidates of every frame (grid y), in no particular order. Counters must be zeroed before.
KERNEL(find_candidates, BoxesParams) {
    u32 item = blockIdx.x * BLOCK_ITEMS + threadIdx.x, image = blockIdx.y;
    Counters *counters = (Counters *)p.counters + image;
    Candidate *list = (Candidate *)p.candidates + (u64)image * CAPACITY;
    auto take = [&](const Candidate &candidate) {
        u32 slot = atomicAdd(&counters->found, 1u);
        if (slot < CAPACITY) list[slot] = candidate;
    };
    auto drop = [&]() { atomicAdd(&counters->non_finite, 1u); };
    // Scores of an anchor are adjacent and read several times: neighbouring threads load them into shared memory once.
    __shared__ float staged[STAGED_SCORES];
    u32 most = p.family == ANCHORS && p.columns > 0 ? STAGED_SCORES / p.columns : 0;
    if (most < MIN_STAGED_ROWS) {
        if (item < p.items) candidates_of(p, image, item, take, drop);
        return;
    }
    u32 start = blockIdx.x * BLOCK_ITEMS, here = p.items - start < BLOCK_ITEMS ? p.items - start : BLOCK_ITEMS;
    for (u32 first = 0; first < here; first += most) {
        u32 rows = here - first < most ? here - first : most;
        u64 from = ((u64)image * p.items + start + first) * p.columns;
        for (u32 at = threadIdx.x; at < rows * p.columns; at += BLOCK_ITEMS) staged[at] = element(p, 1, from + at);
        __syncthreads();
        const float *row = staged + (threadIdx.x - first) * p.columns;
        if (threadIdx.x - first < rows) anchor_candidates(p, image, item, [&](u32 i) { return row[i]; }, take, drop);
        __syncthreads();
    }
}

// A larger key ranks first; equal scores rank by ascending index. Keys are unique.
DEVICE u64 key_of(const Candidate &candidate) { return (u64)bits_of(candidate.score) << 32 | (0xffffffffu - candidate.index); }

// The key of the candidate with exactly `wanted - 1` better ones, found byte by byte from the top.
DEVICE u64 key_of_rank(const BoxesParams &p, u32 image, u32 wanted, u32 *histogram) {
    __shared__ u64 prefix;
    __shared__ u32 rest;
    if (threadIdx.x == 0) {
        prefix = 0;
        rest = wanted;
    }
    for (int shift = 56; shift >= 0; shift -= 8) {
        if (threadIdx.x < 256) histogram[threadIdx.x] = 0;
        __syncthreads();
        auto count = [&](const Candidate &candidate) {
            u64 key = key_of(candidate);
            if (shift == 56 || key >> (shift + 8) == prefix) atomicAdd(&histogram[key >> shift & 255], 1u);
        };
        for (u32 item = threadIdx.x; item < p.items; item += THREADS) candidates_of(p, image, item, count, []() {});
        __syncthreads();
        if (threadIdx.x == 0) {
            u32 bin = 255;
            while (bin > 0 && histogram[bin] < rest) rest -= histogram[bin--];
            prefix = prefix << 8 | bin;
        }
        __syncthreads();
    }
    return prefix;
}

DEVICE float area_of(float width, float height) { return (width > 0.0f ? width : 0.0f) * (height > 0.0f ? height : 0.0f); }

// Intersection over union; 0 when either box is empty.
DEVICE float overlap_of(const Candidate &a, const Candidate &b) {
    float x1 = a.x1 > b.x1 ? a.x1 : b.x1, y1 = a.y1 > b.y1 ? a.y1 : b.y1;
    float x2 = a.x2 < b.x2 ? a.x2 : b.x2, y2 = a.y2 < b.y2 ? a.y2 : b.y2;
    float shared = area_of(x2 - x1, y2 - y1);
    float joined = area_of(a.x2 - a.x1, a.y2 - a.y1) + area_of(b.x2 - b.x1, b.y2 - b.y1) - shared;
    return joined > 0.0f ? shared / joined : 0.0f;
}

// Sorts and suppresses the candidates of one frame (grid x) and writes its results.
KERNEL_OF(1024, suppress, BoxesParams) {
    // For each rank, the candidate's position in the list.
    __shared__ u16 order[MAX_CANDIDATES];
    __shared__ u16 kept[MAX_CANDIDATES];
    __shared__ u8 is_dead[MAX_CANDIDATES];
    __shared__ u64 tile[THREADS];
    __shared__ u32 listed;
    u32 image = blockIdx.x, thread = threadIdx.x;
    const Counters counters = ((const Counters *)p.counters)[image];
    Candidate *list = (Candidate *)p.candidates + (u64)image * CAPACITY;
    u32 found = counters.found < CAPACITY ? counters.found : CAPACITY;
    if (counters.found > CAPACITY) {
        // Which candidates were stored is arbitrary: find the best ones and store them again.
        u64 lowest = key_of_rank(p, image, MAX_CANDIDATES, (u32 *)tile);
        if (thread == 0) listed = 0;
        __syncthreads();
        auto take = [&](const Candidate &candidate) {
            if (key_of(candidate) >= lowest) list[atomicAdd(&listed, 1u)] = candidate;
        };
        for (u32 item = thread; item < p.items; item += THREADS) candidates_of(p, image, item, take, []() {});
        found = MAX_CANDIDATES;
        __syncthreads();
    }

    // A candidate's rank is the number of better ones.
    u32 rank[CAPACITY / THREADS] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (u32 start = 0; start < found; start += THREADS) {
        tile[thread] = start + thread < found ? key_of(list[start + thread]) : 0;
        __syncthreads();
        u32 filled = found - start < THREADS ? found - start : THREADS;
#pragma unroll
        for (u32 i = 0; i < CAPACITY / THREADS; i++) {
            if (i * THREADS + thread >= found) continue;
            u64 key = key_of(list[i * THREADS + thread]);
            for (u32 other = 0; other < filled; other++) rank[i] += tile[other] > key;
        }
        __syncthreads();
    }
    u32 count = found < MAX_CANDIDATES ? found : MAX_CANDIDATES;
#pragma unroll
    for (u32 i = 0; i < CAPACITY / THREADS; i++) {
        if (i * THREADS + thread < found && rank[i] < count) order[rank[i]] = (u16)(i * THREADS + thread);
    }
    for (u32 i = thread; i < count; i += THREADS) is_dead[i] = 0;
    __syncthreads();

    // Of overlapping boxes, the best is kept. All threads read the same flags, so all reach the same barriers.
    u32 alive = 0;
    for (u32 i = 0; i < count; i++) {
        if (is_dead[i]) continue;
        if (thread == 0) kept[alive] = (u16)i;
        alive++;
        Candidate best = list[order[i]];
        for (u32 j = i + 1 + thread; j < count; j += THREADS) {
            if (is_dead[j]) continue;
            const Candidate &other = list[order[j]];
            if ((p.class_agnostic || other.class_id == best.class_id) && overlap_of(best, other) > p.iou) is_dead[j] = 1;
        }
        __syncthreads();
    }

    u64 result = p.results + (u64)image * (sizeof(Header) + (u64)p.max_detections * sizeof(Found));
    u32 written = alive < p.max_detections ? alive : p.max_detections;
    if (thread == 0) *(Header *)result = Header{written, counters.non_finite, counters.found - count, alive - written};
    Found *out = (Found *)(result + sizeof(Header));
    for (u32 i = thread; i < written; i += THREADS) {
        Candidate candidate = list[order[kept[i]]];
        Found entry = {candidate.x1, candidate.y1, candidate.x2, candidate.y2, candidate.score, candidate.class_id, candidate.index, {}, 0};
        for (u32 point = 0; point < p.points; point++) {
            Point place = point_of(p, image, candidate, point);
            entry.point[2 * point] = place.x;
            entry.point[2 * point + 1] = place.y;
        }
        out[i] = entry;
    }
}
