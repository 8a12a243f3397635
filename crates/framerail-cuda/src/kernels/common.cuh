// Shared by all kernel files: number types, half precision, loads and stores.
//
// The files compile as CUDA C++ (NVRTC, no headers) and as host C++ for the tests, which run blocks one after another.
// Frames are loaded with __ldg or load_changing, so that the tests can check bounds. Arithmetic matches the host's step by step;
// contraction to fused multiply-adds must be off (--fmad=false).

#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef short i16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#ifdef FRAMERAIL_EMULATION
#define KERNEL_OF(threads, name, Params) extern "C" void name(const Params &p)
#define DEVICE static inline
#else
// Keeps parameters in the constant bank, even when indexed.
#define KERNEL_OF(threads, name, Params) extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Params p)
#define DEVICE static __device__ __forceinline__
#endif

#define KERNEL(name, Params) KERNEL_OF(256, name, Params)

// Adding this leaves the rounded integer in a float's lowest bits.
#define WHOLE 8388608.0f

// Sixteen bytes that are moved at once.
struct alignas(16) Quad {
    u32 word[4];
};

struct alignas(8) Pair {
    u32 word[2];
};

DEVICE int clamp_int(int value, int low, int high) { return value < low ? low : value > high ? high : value; }
DEVICE float clamp_float(float value, float low, float high) { return value < low ? low : value > high ? high : value; }
DEVICE double clamp_double(double value, double low, double high) { return value < low ? low : value > high ? high : value; }

DEVICE u32 bits_of(float value) {
#ifdef FRAMERAIL_EMULATION
    u32 bits;
    memcpy(&bits, &value, 4);
    return bits;
#else
    return __float_as_uint(value);
#endif
}

DEVICE float float_of(u32 bits) {
#ifdef FRAMERAIL_EMULATION
    float value;
    memcpy(&value, &bits, 4);
    return value;
#else
    return __uint_as_float(bits);
#endif
}

// Loads from memory that this kernel also writes.
template <typename T> DEVICE T load_changing(const T *at) {
#ifdef FRAMERAIL_EMULATION
    return __ldg(at);
#else
    return *at;
#endif
}

// Rounds a value in 0 to 255 to nearest, ties to even.
DEVICE u32 to_byte(float value) { return bits_of(value + WHOLE) & 255u; }

// IEEE 754 half precision, rounded to nearest, ties to even; infinity beyond its range.
DEVICE u16 to_half(float value) {
#ifdef FRAMERAIL_EMULATION
    u32 bits = bits_of(value), sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return (u16)(sign | 0x7fffu);
    if (bits >= 0x47800000u) return (u16)(sign | 0x7c00u);
    if (bits < 0x38800000u) {
        // Subnormal: adding 0.5 rounds at the right place.
        return (u16)(sign | (bits_of(float_of(bits) + 0.5f) - bits_of(0.5f)));
    }
    return (u16)(sign | ((bits + 0xfffu + (bits >> 13 & 1u) - 0x38000000u) >> 13));
#else
    u16 half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
#endif
}

DEVICE float from_half(u16 half) {
#ifdef FRAMERAIL_EMULATION
    u32 sign = (u32)(half & 0x8000u) << 16, exponent = half >> 10 & 31u, mantissa = half & 1023u;
    if (exponent == 31) return float_of(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * (float)mantissa * (1.0f / 16777216.0f);
    return float_of(sign | (exponent + 112u) << 23 | mantissa << 13);
#else
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
#endif
}

// bfloat16, rounded to nearest, ties to even.
DEVICE u16 to_bfloat16(float value) {
    u32 bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)(bits >> 16 | 0x40u);
    return (u16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

DEVICE float from_bfloat16(u16 bits) { return float_of((u32)bits << 16); }

// Types of a tensor's elements.
enum ElementType { TYPE_U8 = 0, TYPE_F16 = 1, TYPE_BF16 = 2, TYPE_F32 = 3, TYPE_U16 = 4 };

DEVICE u32 byte_of_element(float element) { return to_byte(clamp_float(element, 0.0f, 255.0f)); }

// Converts to a two-byte element.
DEVICE u32 half_of_element(int type, float element) {
    if (type == TYPE_U16) return bits_of(clamp_float(element, 0.0f, 65535.0f) + WHOLE) & 0xffffu;
    return type == TYPE_F16 ? to_half(element) : to_bfloat16(element);
}

// Stores one element at any index.
DEVICE void store_one(int type, u64 tensor, u64 index, float element) {
    if (type == TYPE_U8) ((u8 *)tensor)[index] = (u8)byte_of_element(element);
    else if (type == TYPE_F32) ((float *)tensor)[index] = element;
    else ((u16 *)tensor)[index] = (u16)half_of_element(type, element);
}
