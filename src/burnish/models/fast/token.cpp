// Attention of one token more for each row of a step of generation, over keys and values in slots: compiled with `kernels.cpp`.
//
// Queries and keys are turned, key and value put into the row's slot, and softmax(factor q K^T) V taken over what the slot holds by then, in
// one pass: nothing is copied, no head repeated, and no row waits for a longer one. A row's numbers do not depend on the others.

#include "numbers.h"

namespace {

const integer MOST_WIDTH = 512;

// The halves of a head as pairs, rotated by cos and sin of the row's place, times `factor`.
template <typename In, typename Out>
inline void turn(const In *in, const float *cosine, const float *sine, float factor, Out *out, integer width) {
    integer half = width / 2;
#pragma omp simd
    for (integer i = 0; i < half; ++i) {
        float first = wide(in[i]), second = wide(in[i + half]);
        put(out + i, factor * (first * cosine[i] - second * sine[i]));
        put(out + i + half, factor * (second * cosine[i + half] + first * sine[i + half]));
    }
}

// Scores become e^(score - greatest); returns their sum.
inline float exponentials(float *scores, integer count) {
    float most = -3.0e38f, sum = 0.0f;
#pragma omp simd reduction(max : most)
    for (integer i = 0; i < count; ++i) most = scores[i] > most ? scores[i] : most;
#pragma omp simd reduction(+ : sum)
    for (integer i = 0; i < count; ++i) {
        scores[i] = exponential(scores[i] - most);
        sum += scores[i];
    }
    return sum;
}

// What `Heads` queries mix of the keys and values [count, D] that they share; `weights` is room for `most` numbers of each. A key is read once
// for all of them. `Width` is D where it is one of those that heads usually have, so that the loops over it are straight lines, else 0.
template <int Width, int Heads, typename T>
void mix(const float *queries, const T *keys, const T *values, float *weights, T *to, integer count, integer any_width, integer most) {
    const integer width = Width > 0 ? Width : any_width;
    constexpr int Room = Width > 0 ? Width : MOST_WIDTH;
    for (integer at = 0; at < count; ++at) {
        float other[Room];
#pragma omp simd
        for (integer i = 0; i < width; ++i) other[i] = wide(keys[at * width + i]);
        for (int head = 0; head < Heads; ++head) {
            float product = 0.0f;
#pragma omp simd reduction(+ : product)
            for (integer i = 0; i < width; ++i) product += queries[head * width + i] * other[i];
            weights[head * most + at] = product;
        }
    }
    float share[Heads], sums[Heads][Room] = {};
    for (int head = 0; head < Heads; ++head) share[head] = 1.0f / exponentials(weights + head * most, count);
    for (integer at = 0; at < count; ++at) {
        float other[Room];
#pragma omp simd
        for (integer i = 0; i < width; ++i) other[i] = wide(values[at * width + i]);
        for (int head = 0; head < Heads; ++head) {
            float weight = weights[head * most + at];
#pragma omp simd
            for (integer i = 0; i < width; ++i) sums[head][i] += weight * other[i];
        }
    }
    for (int head = 0; head < Heads; ++head)
#pragma omp simd
        for (integer i = 0; i < width; ++i) put(to + head * width + i, share[head] * sums[head][i]);
}

// Rows of query [B, K*G*D], key and value [B, K*D] stand `*_step` apart; slots [S, K, C, D] of keys and values are contiguous; cos and sin are
// [B, D]; `column` [B] is where the new token stands; `most` columns are seen by any row. `room` is for G D + 4 most numbers of each
// thread.
template <int Width, typename T>
void token_forward(const T *query, const T *key, const T *value, integer query_step, integer key_step, integer value_step, const float *cosine,
                   const float *sine, T *keys, T *values, const integer *column, float *room, T *to, integer rows, integer shared,
                   integer group, integer any_width, integer columns, integer most, float factor, int threads) {
    const integer width = Width > 0 ? Width : any_width;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer part = 0; part < threads; ++part) {
        float *turned = room + part * (group * width + 4 * most), *weights = turned + group * width;
        for (integer line = part; line < rows * shared; line += threads) {
            integer row = line / shared, head = line % shared, place = column[row];
            const float *c = cosine + row * width, *s = sine + row * width;
            T *all_keys = keys + line * columns * width, *all_values = values + line * columns * width;
            turn(key + row * key_step + head * width, c, s, 1.0f, all_keys + place * width, width);
            std::memcpy(all_values + place * width, value + row * value_step + head * width, static_cast<std::size_t>(width) * sizeof(T));
            for (integer g = 0; g < group; ++g)
                turn(query + row * query_step + (head * group + g) * width, c, s, factor, turned + g * width, width);
            for (integer g = 0; g < group; g += 4) {
                const float *own = turned + g * width;
                T *out = to + (line * group + g) * width;
                auto some = group - g == 1 ? mix<Width, 1, T> : group - g == 2 ? mix<Width, 2, T> : group - g == 3 ? mix<Width, 3, T> : mix<Width, 4, T>;
                some(own, all_keys, all_values, weights, out, place + 1, width, most);
            }
        }
    }
}

}  // namespace

#define EACH(name, T)                                                                                                                   \
    OUT void token_forward_##name(const T *query, const T *key, const T *value, integer query_step, integer key_step, integer value_step, \
                                  const float *cosine, const float *sine, T *keys, T *values, const integer *column, float *room, T *to,  \
                                  integer rows, integer shared, integer group, integer width, integer columns, integer most,          \
                                  float factor, int threads) {                                                                         \
        auto loops = width == 64 ? token_forward<64, T> : width == 128 ? token_forward<128, T> : token_forward<0, T>;                  \
        loops(query, key, value, query_step, key_step, value_step, cosine, sine, keys, values, column, room, to, rows, shared, group,  \
              width, columns, most, factor, threads);                                                                                  \
    }

EACH(b, bfloat)
EACH(f, float)
