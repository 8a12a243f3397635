// Access to one component's samples of a surface that is changed in place.
#pragma once

#include "common.cuh"

struct Samples {
    u64 first;
    // Pitch, and bytes between samples.
    u32 pitch, step;
    u32 bytes;
    // Bits by which stored samples are shifted left.
    u32 shift;
    float max_value;
};

DEVICE u64 address_of(const Samples &samples, u32 x, u32 y) { return samples.first + (u64)y * samples.pitch + (u64)x * samples.step; }

// Loads a code value.
DEVICE u32 code_at(const Samples &samples, u32 x, u32 y) {
    u64 at = address_of(samples, x, y);
    return samples.bytes == 1 ? (u32)load_changing((const u8 *)at) : (u32)(load_changing((const u16 *)at) >> samples.shift);
}

// Blends a sample towards a value by coverage (0 to 255); rounded as on the host, which rounds in two ways.
DEVICE void blend(const Samples &samples, u32 x, u32 y, float value, u32 coverage) {
    u64 at = address_of(samples, x, y);
    float old = (float)code_at(samples, x, y);
    float mixed = old + (value - old) * ((float)coverage * (1.0f / 255.0f));
    if (samples.bytes == 1) {
        *(u8 *)at = samples.step == 1 ? (u8)to_byte(mixed) : (u8)(int)clamp_float(mixed + 0.5f, 0.0f, 255.0f);
        return;
    }
    mixed += 0.5f;
    *(u16 *)at = (u16)((u32)(mixed < samples.max_value ? mixed : samples.max_value) << samples.shift);
}
