// Numbers as the loops of `kernels.cpp` and `token.cpp` read, compute and write them: float32 inside, bfloat16 rounded once at the end.

#pragma once

#include <cstdint>
#include <cstring>

namespace {

using integer = std::int64_t;
using bfloat = std::uint16_t;

inline float bits_to_float(std::uint32_t bits) { float value; std::memcpy(&value, &bits, 4); return value; }
inline std::uint32_t float_to_bits(float value) { std::uint32_t bits; std::memcpy(&bits, &value, 4); return bits; }

inline float wide(float value) { return value; }
inline float wide(bfloat value) { return bits_to_float(static_cast<std::uint32_t>(value) << 16); }

inline void put(float *at, float value) { *at = value; }
inline void put(bfloat *at, float value) {  // to nearest, ties to even
    std::uint32_t bits = float_to_bits(value);
    *at = static_cast<bfloat>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// e^x by Cody and Waite's reduction and the series that Cephes uses; relative error below 2e-7. Beyond -87 and 88 it stays as there.
inline float exponential(float x) {
    float bounded = x > 88.0f ? 88.0f : x;
    bounded = bounded < -87.0f ? -87.0f : bounded;
    float whole = __builtin_rintf(bounded * 1.44269504088896341f);
    float rest = bounded - whole * 0.693359375f + whole * 2.12194440e-4f;
    float series = 1.9875691500e-4f;
    series = series * rest + 1.3981999507e-3f;
    series = series * rest + 8.3334519073e-3f;
    series = series * rest + 4.1665795894e-2f;
    series = series * rest + 1.6666665459e-1f;
    series = series * rest + 5.0000001201e-1f;
    series = series * rest * rest + rest + 1.0f;
    std::int32_t exponent = static_cast<std::int32_t>(whole) + 127;
    return series * bits_to_float(static_cast<std::uint32_t>(exponent) << 23);
}

inline float logarithm(float x) { return __builtin_logf(x); }

}  // namespace

#define OUT extern "C" __attribute__((visibility("default")))
