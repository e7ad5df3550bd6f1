// Element-wise work between matrix products, one pass over memory each: compiled on first use by `kernels.py`, called through ctypes.
//
// Every function has a plain twin in torch (`kernels_plain.py`), and a test that holds both to the same numbers. Sums and exponentials
// are float32 whatever the arrays hold; bfloat16 is rounded once, at the end. Suffixes: _b bfloat16, _f float32. No header of torch is
// read, so compiling takes a second; rows are shared out to the threads of torch's own OpenMP.

#include "numbers.h"

namespace {

// ------------------------------------------------------------------------------------------------------------ RMS normalisation

template <typename In, typename Out>
void norm_forward(const In *x, const float *weight, float epsilon, Out *y, float *scale, integer rows, integer width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer row = 0; row < rows; ++row) {
        const In *from = x + row * width;
        float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
        for (integer i = 0; i < width; ++i) squares += wide(from[i]) * wide(from[i]);
        float factor = 1.0f / __builtin_sqrtf(squares / static_cast<float>(width) + epsilon);
        scale[row] = factor;
        Out *to = y + row * width;
#pragma omp simd
        for (integer i = 0; i < width; ++i) put(to + i, wide(from[i]) * factor * weight[i]);
    }
}

// What `norm_forward` gave, from the factors that it kept.
template <typename In, typename Out>
void norm_again(const In *x, const float *weight, const float *scale, Out *y, integer rows, integer width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer row = 0; row < rows; ++row) {
        const In *from = x + row * width;
        Out *to = y + row * width;
#pragma omp simd
        for (integer i = 0; i < width; ++i) put(to + i, wide(from[i]) * scale[row] * weight[i]);
    }
}

// dx = scale (w g - x scale^2 mean(w g x)); `moved` [threads, width] takes g x scale, summed over rows, where it is wanted.
template <typename In, typename Out>
void norm_backward(const Out *gradient, const In *x, const float *weight, const float *scale, In *to, float *moved, integer rows,
                   integer width, int threads) {
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (integer block = 0; block < threads; ++block) {
            float *mine = moved == nullptr ? nullptr : moved + block * width;
            for (integer row = rows * block / threads; row < rows * (block + 1) / threads; ++row) {
                const Out *g = gradient + row * width;
                const In *from = x + row * width;
                In *into = to + row * width;
                float factor = scale[row], along = 0.0f;
#pragma omp simd reduction(+ : along)
                for (integer i = 0; i < width; ++i) along += wide(g[i]) * weight[i] * wide(from[i]);
                float back = along * factor * factor / static_cast<float>(width);
                if (mine != nullptr)
#pragma omp simd
                    for (integer i = 0; i < width; ++i) mine[i] += wide(g[i]) * wide(from[i]) * factor;
#pragma omp simd
                for (integer i = 0; i < width; ++i) put(into + i, factor * (wide(g[i]) * weight[i] - wide(from[i]) * back));
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ gated activations

struct Silu {
    static inline void both(float x, float &value, float &slope) {
        float share = 1.0f / (1.0f + exponential(-x));
        value = x * share;
        slope = share * (1.0f + x * (1.0f - share));
    }
};

struct Gelu {  // by tanh: Hendrycks and Gimpel 2016, arXiv 1606.08415
    static inline void both(float x, float &value, float &slope) {
        const float root = 0.7978845608028654f, cubic = 0.044715f;
        float inner = root * (x + cubic * x * x * x);
        float tangent = 1.0f - 2.0f / (exponential(2.0f * inner) + 1.0f);
        value = 0.5f * x * (1.0f + tangent);
        slope = 0.5f * (1.0f + tangent) + 0.5f * x * (1.0f - tangent * tangent) * root * (1.0f + 3.0f * cubic * x * x);
    }
};

template <typename Act, typename T>
void gate_forward(const T *gate, const T *up, T *to, integer rows, integer width, integer step, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer row = 0; row < rows; ++row) {
        const T *a = gate + row * step, *b = up + row * step;
        T *into = to + row * width;
#pragma omp simd
        for (integer i = 0; i < width; ++i) {
            float value, slope;
            Act::both(wide(a[i]), value, slope);
            put(into + i, value * wide(b[i]));
        }
    }
}

template <typename Act, typename T>
void gate_backward(const T *gradient, const T *gate, const T *up, T *to_gate, T *to_up, integer rows, integer width,
                   integer step, integer step_to, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer row = 0; row < rows; ++row) {
        const T *g = gradient + row * width, *a = gate + row * step, *b = up + row * step;
        T *into_a = to_gate + row * step_to, *into_b = to_up + row * step_to;
#pragma omp simd
        for (integer i = 0; i < width; ++i) {
            float value, slope, above = wide(g[i]), other = wide(b[i]);
            Act::both(wide(a[i]), value, slope);
            put(into_a + i, above * other * slope);
            put(into_b + i, above * value);
        }
    }
}

// ------------------------------------------------------------------------------------------------------- heads, turned and put in order

// From [B, T, K*G, D] with rows `step` apart to [B, K, T, G, D], the first `turned` numbers of each head rotated by cos and sin [B, T, turned].
template <typename T>
void heads_forward(const T *from, const float *cosine, const float *sine, T *to, integer batch, integer length, integer shared, integer group,
                   integer width, integer step, integer turned, int threads) {
    integer half = turned / 2;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer place = 0; place < batch * length; ++place) {
        integer b = place / length, t = place % length;
        const float *c = cosine + place * turned, *s = sine + place * turned;
        for (integer k = 0; k < shared; ++k)
            for (integer g = 0; g < group; ++g) {
                const T *in = from + place * step + (k * group + g) * width;
                T *out = to + (((b * shared + k) * length + t) * group + g) * width;
#pragma omp simd
                for (integer i = 0; i < half; ++i) {
                    float first = wide(in[i]), second = wide(in[i + half]);
                    put(out + i, first * c[i] - second * s[i]);
                    put(out + i + half, second * c[i + half] + first * s[i + half]);
                }
                if (turned < width) std::memcpy(out + turned, in + turned, static_cast<std::size_t>(width - turned) * sizeof(T));
            }
    }
}

// The way back of a gradient: from [B, K, T, G, D] to [B, T, K*G, D] with rows `step` apart.
template <typename T>
void heads_backward(const T *from, const float *cosine, const float *sine, T *to, integer batch, integer length, integer shared, integer group,
                    integer width, integer step, integer turned, int threads) {
    integer half = turned / 2;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer place = 0; place < batch * length; ++place) {
        integer b = place / length, t = place % length;
        const float *c = cosine + place * turned, *s = sine + place * turned;
        for (integer k = 0; k < shared; ++k)
            for (integer g = 0; g < group; ++g) {
                const T *in = from + (((b * shared + k) * length + t) * group + g) * width;
                T *out = to + place * step + (k * group + g) * width;
#pragma omp simd
                for (integer i = 0; i < half; ++i) {
                    float first = wide(in[i]), second = wide(in[i + half]);
                    put(out + i, first * c[i] + second * s[i + half]);
                    put(out + i + half, second * c[i + half] - first * s[i]);
                }
                if (turned < width) std::memcpy(out + turned, in + turned, static_cast<std::size_t>(width - turned) * sizeof(T));
            }
    }
}

// ------------------------------------------------------------------------------------------------------------------- attention weights

// How many keys the row of a block may see: row r belongs to the query at `query + r / group`, and keys begin at the first place.
inline integer visible(integer row, integer query, integer keys, integer group, int causal) {
    integer end = causal ? query + row / group + 1 : keys;
    return end > keys ? keys : end;
}

inline integer padded(integer count) { return (count + 15) / 16 * 16; }

// Softmax over the keys of each row of [batch, rows, keys], in place; `normaliser` takes log sum exp(factor * s). `room` is for
// padded(keys) numbers of each thread: exponentials are taken of whole vectors there, and no row ends in single ones.
template <typename T>
void weights_forward(T *scores, float *normaliser, float *room, integer batch, integer rows, integer keys, integer query,
                     integer group, int causal, float factor, int threads) {
    integer lines = batch * rows;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer part = 0; part < threads; ++part) {
        float *own = room + part * padded(keys);
        for (integer line = lines * part / threads; line < lines * (part + 1) / threads; ++line) {
            integer count = visible(line % rows, query, keys, group, causal), whole = padded(count);
            T *row = scores + line * keys;
            float most = -3.0e38f, sum = 0.0f;
#pragma omp simd
            for (integer i = 0; i < count; ++i) own[i] = wide(row[i]) * factor;
            for (integer i = count; i < whole; ++i) own[i] = -3.0e38f;
#pragma omp simd reduction(max : most)
            for (integer i = 0; i < whole; ++i) most = own[i] > most ? own[i] : most;
#pragma omp simd reduction(+ : sum)
            for (integer i = 0; i < whole; ++i) {
                own[i] = exponential(own[i] - most);
                sum += own[i];
            }
            normaliser[line] = most + logarithm(sum);
            float share = 1.0f / sum;
#pragma omp simd
            for (integer i = 0; i < count; ++i) put(row + i, own[i] * share);
            std::memset(row + count, 0, static_cast<std::size_t>(keys - count) * sizeof(T));
        }
    }
}

// Scores become weights again, and `above`, the gradient at the weights, becomes that at the products: factor p (g - sum(p g)).
template <typename T>
void weights_backward(T *scores, T *above, const float *normaliser, float *room, integer batch, integer rows, integer keys,
                      integer query, integer group, int causal, float factor, int threads) {
    integer lines = batch * rows;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer part = 0; part < threads; ++part) {
        float *own = room + part * padded(keys);
        for (integer line = lines * part / threads; line < lines * (part + 1) / threads; ++line) {
            integer count = visible(line % rows, query, keys, group, causal), whole = padded(count);
            T *row = scores + line * keys, *g = above + line * keys;
            float level = normaliser[line], along = 0.0f;
#pragma omp simd
            for (integer i = 0; i < count; ++i) own[i] = wide(row[i]) * factor - level;
            for (integer i = count; i < whole; ++i) own[i] = -100.0f;
#pragma omp simd
            for (integer i = 0; i < whole; ++i) own[i] = exponential(own[i]);
#pragma omp simd reduction(+ : along)
            for (integer i = 0; i < count; ++i) along += own[i] * wide(g[i]);
#pragma omp simd
            for (integer i = 0; i < count; ++i) {
                put(row + i, own[i]);
                put(g + i, factor * own[i] * (wide(g[i]) - along));
            }
            std::size_t behind = static_cast<std::size_t>(keys - count) * sizeof(T);
            std::memset(row + count, 0, behind);
            std::memset(g + count, 0, behind);
        }
    }
}

// ------------------------------------------------------------------------------------------------------------------- the output head

// Log-probability of the target, log-normaliser and, where asked, entropy of each row of logits [rows, width].
template <typename T>
void head_forward(const T *logits, const integer *target, float *logprob, float *normaliser, float *entropy, integer rows, integer width,
                  int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer row = 0; row < rows; ++row) {
        const T *line = logits + row * width;
        float most = -3.0e38f;
#pragma omp simd reduction(max : most)
        for (integer i = 0; i < width; ++i) { float s = wide(line[i]); most = s > most ? s : most; }
        double sum = 0.0, along = 0.0;  // a vocabulary is long: float32 within a part of it, float64 over the parts
        for (integer part = 0; part < width; part += 1024) {
            integer end = part + 1024 < width ? part + 1024 : width;
            float near_sum = 0.0f, near_along = 0.0f;
            if (entropy == nullptr)
#pragma omp simd reduction(+ : near_sum)
                for (integer i = part; i < end; ++i) near_sum += exponential(wide(line[i]) - most);
            else
#pragma omp simd reduction(+ : near_sum, near_along)
                for (integer i = part; i < end; ++i) {
                    float s = wide(line[i]) - most, e = exponential(s);
                    near_sum += e;
                    near_along += e * s;
                }
            sum += near_sum;
            along += near_along;
        }
        float whole = most + logarithm(static_cast<float>(sum));
        normaliser[row] = whole;
        logprob[row] = wide(line[target[row]]) - whole;
        if (entropy != nullptr) entropy[row] = static_cast<float>(whole - most - along / sum);
    }
}

// Logits become their gradient, in place: g (1[target] - p) - e p (log p + entropy); `g` null stands for ones, `e` null for zeros.
template <typename T>
void head_backward(T *logits, const integer *target, const float *normaliser, const float *g, const float *entropy, const float *e,
                   integer rows, integer width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer row = 0; row < rows; ++row) {
        T *line = logits + row * width;
        float whole = normaliser[row], factor = g == nullptr ? 1.0f : g[row];
        float hit = exponential(wide(line[target[row]]) - whole), hit_log = wide(line[target[row]]) - whole;
        if (e == nullptr) {
#pragma omp simd
            for (integer i = 0; i < width; ++i) put(line + i, -factor * exponential(wide(line[i]) - whole));
            put(line + target[row], factor * (1.0f - hit));
        } else {
            float other = e[row], level = entropy[row];
#pragma omp simd
            for (integer i = 0; i < width; ++i) {
                float log = wide(line[i]) - whole;
                put(line + i, -exponential(log) * (factor + other * (log + level)));
            }
            put(line + target[row], factor - hit * (factor + other * (hit_log + level)));
        }
    }
}

}  // namespace

#define NORM(name, In, Out)                                                                                                            \
    OUT void norm_forward_##name(const In *x, const float *w, float e, Out *y, float *s, integer rows, integer width, int threads) {       \
        norm_forward(x, w, e, y, s, rows, width, threads);                                                                             \
    }                                                                                                                                  \
    OUT void norm_again_##name(const In *x, const float *w, const float *s, Out *y, integer rows, integer width, int threads) {            \
        norm_again(x, w, s, y, rows, width, threads);                                                                                  \
    }                                                                                                                                  \
    OUT void norm_backward_##name(const Out *g, const In *x, const float *w, const float *s, In *to, float *moved, integer rows,         \
                                  integer width, int threads) {                                                                          \
        norm_backward(g, x, w, s, to, moved, rows, width, threads);                                                                    \
    }

NORM(bb, bfloat, bfloat)
NORM(fb, float, bfloat)
NORM(ff, float, float)

#define EACH(name, T)                                                                                                                  \
    OUT void silu_forward_##name(const T *a, const T *b, T *to, integer rows, integer width, integer step, int threads) {                    \
        gate_forward<Silu>(a, b, to, rows, width, step, threads);                                                                      \
    }                                                                                                                                  \
    OUT void gelu_forward_##name(const T *a, const T *b, T *to, integer rows, integer width, integer step, int threads) {                    \
        gate_forward<Gelu>(a, b, to, rows, width, step, threads);                                                                      \
    }                                                                                                                                  \
    OUT void silu_backward_##name(const T *g, const T *a, const T *b, T *to_a, T *to_b, integer rows, integer width, integer step, \
                                  integer step_to, int threads) {                                                                        \
        gate_backward<Silu>(g, a, b, to_a, to_b, rows, width, step, step_to, threads);                                          \
    }                                                                                                                                  \
    OUT void gelu_backward_##name(const T *g, const T *a, const T *b, T *to_a, T *to_b, integer rows, integer width, integer step, \
                                  integer step_to, int threads) {                                                                        \
        gate_backward<Gelu>(g, a, b, to_a, to_b, rows, width, step, step_to, threads);                                          \
    }                                                                                                                                  \
    OUT void heads_forward_##name(const T *from, const float *c, const float *s, T *to, integer batch, integer length, integer shared,       \
                                  integer group, integer width, integer step, integer turned, int threads) {                                   \
        heads_forward(from, c, s, to, batch, length, shared, group, width, step, turned, threads);                                     \
    }                                                                                                                                  \
    OUT void heads_backward_##name(const T *from, const float *c, const float *s, T *to, integer batch, integer length, integer shared,      \
                                   integer group, integer width, integer step, integer turned, int threads) {                                  \
        heads_backward(from, c, s, to, batch, length, shared, group, width, step, turned, threads);                                    \
    }                                                                                                                                  \
    OUT void weights_forward_##name(T *scores, float *normaliser, float *room, integer batch, integer rows, integer keys, integer query,                      \
                                    integer group, int causal, float factor, int threads) {                                \
        weights_forward(scores, normaliser, room, batch, rows, keys, query, group, causal, factor, threads);                    \
    }                                                                                                                                  \
    OUT void weights_backward_##name(T *scores, T *above, const float *normaliser, float *room, integer batch, integer rows, integer keys, integer query,   \
                                     integer group, int causal, float factor, int threads) {                    \
        weights_backward(scores, above, normaliser, room, batch, rows, keys, query, group, causal, factor, threads);            \
    }                                                                                                                                  \
    OUT void head_forward_##name(const T *logits, const integer *target, float *logprob, float *normaliser, float *entropy, integer rows,  \
                                 integer width, int threads) {                                                                           \
        head_forward(logits, target, logprob, normaliser, entropy, rows, width, threads);                                              \
    }                                                                                                                                  \
    OUT void head_backward_##name(T *logits, const integer *target, const float *normaliser, const float *g, const float *entropy,       \
                                  const float *e, integer rows, integer width, int threads) {                                              \
        head_backward(logits, target, normaliser, g, entropy, e, rows, width, threads);                                                \
    }

EACH(b, bfloat)
EACH(f, float)
