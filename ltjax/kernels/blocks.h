// What the sources of the kernels share: vectors, products of small blocks, sums, and threads.
//
// Sums over a batch are taken in parts whose number depends on the shapes alone, and are added in a
// fixed order: so results do not depend on the number of threads.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
#include <immintrin.h>
#define WITH_HALVES
#endif

namespace {

namespace ffi = xla::ffi;

// A vector, and the block of a product that fits into the registers: rows x vectors.
#ifdef __AVX512F__
constexpr int kVector = 16, kRows = 16, kColumns = 1;
#else
constexpr int kVector = 8, kRows = 4, kColumns = 2;
#endif
typedef float Vec __attribute__((vector_size(4 * kVector), aligned(4)));
typedef int Bits __attribute__((vector_size(4 * kVector), aligned(4)));

#define UNROLL _Pragma("GCC unroll 16")

inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }

// What lies in memory is float32, or bfloat16 rounded to the nearest; what is computed is float32.
using Half = uint16_t;  // the bits of a bfloat16
#ifdef WITH_HALVES
inline Vec load(const Half* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return (Vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16);
}
inline void store(Half* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh((__m512)v));
}
#endif

// `count` numbers, a multiple of a vector.
template <class From, class To>
void copy(const From* from, int64_t count, To* to) {
  for (int64_t e = 0; e < count; e += kVector) store(to + e, load(from + e));
}

inline Vec all(float f) { return f - Vec{}; }
// g where x > 0, else 0.
inline Vec where_positive(Vec x, Vec g) { return (Vec)((Bits)g & (x > Vec{})); }

// max(x, 0); NaN stays.
inline Vec relu(Vec x) { return (Vec)((Bits)x & ~(x < Vec{})); }

int up(int n, int step) { return (n + step - 1) / step * step; }

// A number of channels that the compiler knows, so that it unrolls the loops over them; the loops
// take it, or any other number as an int64_t.
template <int N>
struct Known {
  constexpr operator int64_t() const { return N; }
};

// f with the number of channels, known where it is a common one.
template <class F>
void with_channels(int64_t channels, const F& f) {
  switch (channels) {
    case 16: return f(Known<16>{});
    case 32: return f(Known<32>{});
    case 64: return f(Known<64>{});
    default: return f(channels);
  }
}

// Memory that grows and is kept, one piece per thread and purpose.
enum Purpose { kPaddedInput, kPaddedGradient, kTiles, kProducts, kGradients, kConvolved, kMorePurposes };
float* scratch(Purpose purpose, size_t size) {
  static thread_local std::vector<float> pieces[kMorePurposes];
  std::vector<float>& piece = pieces[purpose];
  if (piece.size() < size + 16) piece.resize(size + 16);
  const uintptr_t at = reinterpret_cast<uintptr_t>(piece.data());
  return reinterpret_cast<float*>((at + 63) & ~uintptr_t(63));
}

// ---------------------------------------------------------------------------------------------
// Products of matrices. Strides are between rows; columns are a multiple of a vector.

// c [P, Q vectors] (+)= a [P, depth] b [depth, Q vectors].
template <int P, int Q, class Depth>
void block(const float* a, int64_t da, const float* b, int64_t db, float* c, int64_t dc, Depth depth, bool add) {
  Vec sum[P][Q] = {};
  for (int64_t k = 0; k < depth; k++) {
    Vec right[Q];
    UNROLL for (int q = 0; q < Q; q++) right[q] = load(b + k * db + kVector * q);
    UNROLL for (int p = 0; p < P; p++) {
      const Vec left = all(a[p * da + k]);
      UNROLL for (int q = 0; q < Q; q++) sum[p][q] += left * right[q];
    }
  }
  UNROLL for (int p = 0; p < P; p++)
    UNROLL for (int q = 0; q < Q; q++) {
      float* to = c + p * dc + kVector * q;
      store(to, add ? load(to) + sum[p][q] : sum[p][q]);
    }
}

template <class Columns, class Depth>
void multiply_once(const float* a, int64_t da, const float* b, int64_t db, float* c, int64_t dc,
                   int rows, Columns columns, Depth depth, bool add) {
  int64_t o = 0;
  for (; o + kVector * kColumns <= columns; o += kVector * kColumns)
    for (int r = 0; r < rows; r += kRows)
      block<kRows, kColumns>(a + r * da, da, b + o, db, c + r * dc + o, dc, depth, add);
  for (; o < columns; o += kVector)
    for (int r = 0; r < rows; r += kRows)
      block<kRows, 1>(a + r * da, da, b + o, db, c + r * dc + o, dc, depth, add);
}

// c [rows, columns] = a [rows, depth] b [depth, columns]; rows is a multiple of kRows. A long sum is
// taken in pieces, whose rounding errors do not grow with its length.
template <class Columns, class Depth>
void multiply(const float* a, int64_t da, const float* b, int64_t db, float* c, int64_t dc,
              int rows, Columns columns, Depth depth) {
  constexpr int64_t kPiece = 64;
  if (depth <= kPiece) return multiply_once(a, da, b, db, c, dc, rows, columns, depth, false);
  for (int64_t k = 0; k < depth; k += kPiece)
    multiply_once(a + k, da, b + k * db, db, c, dc, rows, columns, std::min<int64_t>(kPiece, depth - k), k > 0);
}

// c [P, Q vectors] += a^T b, a [depth, P], b [depth, Q vectors].
template <int P, int Q>
void add_block(const float* a, int64_t da, const float* b, int64_t db, float* c, int64_t dc, int depth) {
  Vec sum[P][Q];
  UNROLL for (int p = 0; p < P; p++)
    UNROLL for (int q = 0; q < Q; q++) sum[p][q] = load(c + p * dc + kVector * q);
  for (int k = 0; k < depth; k++) {
    Vec right[Q];
    UNROLL for (int q = 0; q < Q; q++) right[q] = load(b + k * db + kVector * q);
    UNROLL for (int p = 0; p < P; p++) {
      const Vec left = all(a[k * da + p]);
      UNROLL for (int q = 0; q < Q; q++) sum[p][q] += left * right[q];
    }
  }
  UNROLL for (int p = 0; p < P; p++)
    UNROLL for (int q = 0; q < Q; q++) store(c + p * dc + kVector * q, sum[p][q]);
}

// c [rows, columns] += a^T b, a [depth, rows], b [depth, columns].
template <class Rows, class Columns>
void add_transposed(const float* a, int64_t da, const float* b, int64_t db, float* c, int64_t dc,
                    Rows rows, Columns columns, int depth) {
  for (int64_t o = 0; o < columns;) {
    const bool wide = o + kVector * kColumns <= columns;
    int64_t r = 0;
    for (; r + kRows <= rows; r += kRows)
      if (wide) add_block<kRows, kColumns>(a + r, da, b + o, db, c + r * dc + o, dc, depth);
      else add_block<kRows, 1>(a + r, da, b + o, db, c + r * dc + o, dc, depth);
    for (; r < rows; r++)  // a kernel of three channels has 27 rows
      if (wide) add_block<1, kColumns>(a + r, da, b + o, db, c + r * dc + o, dc, depth);
      else add_block<1, 1>(a + r, da, b + o, db, c + r * dc + o, dc, depth);
    o += wide ? kVector * kColumns : kVector;
  }
}

// ---------------------------------------------------------------------------------------------
// Sums over pixels, and the batch in parts.

// s[0] += sum u, s[1] += sum u v per channel; several chains of additions hide their latency.
template <class Channels, class T>
void add_sums(Channels c, const T* u, const T* v, int64_t pixels, float* s) {
  for (int i = 0; i < c; i += kVector) {
    Vec a[4] = {}, b[4] = {};
    int64_t n = 0;
    for (; n + 4 <= pixels; n += 4)
      UNROLL for (int e = 0; e < 4; e++) {
        const Vec x = load(u + (n + e) * c + i);
        a[e] += x, b[e] += x * load(v + (n + e) * c + i);
      }
    for (; n < pixels; n++) {
      const Vec x = load(u + n * c + i);
      a[0] += x, b[0] += x * load(v + n * c + i);
    }
    store(s + i, load(s + i) + ((a[0] + a[1]) + (a[2] + a[3])));
    store(s + c + i, load(s + c + i) + ((b[0] + b[1]) + (b[2] + b[3])));
  }
}

// dy + k0 y + k1 of an element, k [2, C]: the gradient of y where its sums have gradients, too, as they
// have behind a batch norm.
template <class Channels, class Y>
Vec norm_gradient(Channels c, const Y* dy, const Y* y, const float* k, int64_t channel) {
  return load(dy) + (load(y) * load(k + channel) + load(k + c + channel));
}

// The same of some pixels.
template <class Channels, class Y>
void norm_gradient_line(Channels c, int64_t line, const Y* dy, const Y* y, const float* k, float* to) {
  for (int64_t w = 0; w < line; w += c)
    for (int64_t i = 0; i < c; i += kVector) store(to + w + i, norm_gradient(c, dy + w + i, y + w + i, k, i));
}

// ---------------------------------------------------------------------------------------------
// A convolution of 3 x 3, with a border of one zero.

struct Shape {
  int batch, height, width, in, out, stride;
  int down() const { return (height - 1) / stride + 1; }
  int across() const { return (width - 1) / stride + 1; }
  int64_t input() const { return int64_t(height) * width * in; }
  int64_t output() const { return int64_t(down()) * across() * out; }
};

// ---------------------------------------------------------------------------------------------
// Around a convolution: what stands before it, and what passes it on the way back.

// u = x, or u = relu(a x + b), or u = relu(a x + b + shortcut).
template <class T>
struct Before {
  const T* x;
  const float* affine;  // (a, b); this and the next may be null
  const T* shortcut;
};

// u from element `at` of the batch on, of channel i.
template <class Channels, class T>
Vec input_at(Channels c, const Before<T>& before, int64_t at, int64_t i) {
  const Vec x = load(before.x + at);
  if (before.affine == nullptr) return x;
  Vec v = x * load(before.affine + i) + load(before.affine + c + i);
  if (before.shortcut != nullptr) v += load(before.shortcut + at);
  return relu(v);
}

// `count` numbers of u from element `at` of the batch on, the first of a pixel; also to `kept` where
// that is not null.
template <class Channels, class T, class To>
void compute_input(Channels c, const Before<T>& before, int64_t at, int64_t count, To* to, T* kept) {
  for (int64_t w = 0; w < count; w += c)
    for (int64_t i = 0; i < c; i += kVector) {
      const Vec v = input_at(c, before, at + w + i, i);
      store(to + w + i, v);
      if (kept != nullptr) store(kept + at + w + i, v);
    }
}

// What arrives in the backward pass: the gradients of y, of its sums (`norm_gradient_line`), and of u
// where that is an output; `kept` is u.
template <class Y, class T>
struct Arriving {
  const Y *dy, *y;
  const float* k;
  const T *du, *kept;
};

// What leaves it. The gradient of a x + b is `dshortcut`, which may be null, and a times it is dx,
// which is null where it is not wanted; `sums` are those of the gradient of a x + b and of its
// product with x.
template <class T>
struct Leaving {
  T* dx;
  float *sums, *dk;
  T* dshortcut;
};

// Ends the gradient of `count` elements of the input from element `first` of the batch on, of which
// `convolved` is the convolution's part, and may be where dx is. `u` are those elements of u, or null
// where they were kept or are to be computed.
template <class Channels, class Y, class T>
void end_gradient(Channels c, const Before<T>& before, const Arriving<Y, T>& given, const float* u,
                  const float* convolved, int64_t first, int64_t count, const Leaving<T>& out, float* sums) {
  const float* a = before.affine;
  const T *x = before.x + first, *kept = u == nullptr && given.kept != nullptr ? given.kept + first : nullptr;
  for (int i = 0; i < c; i += kVector) {
    const Vec scale = load(a + i), shift = load(a + c + i);
    Vec sum = {}, product = {};
    for (int64_t e = i; e < count; e += c) {
      const Vec z = load(x + e);
      Vec g = load(convolved + e);
      if (given.du != nullptr) g += load(given.du + first + e);
      g = where_positive(u != nullptr ? load(u + e) : kept != nullptr ? load(kept + e) : z * scale + shift, g);
      sum += g, product += g * z;
      if (out.dshortcut != nullptr) store(out.dshortcut + first + e, g);
      store(out.dx + first + e, g * scale);
    }
    store(sums + i, load(sums + i) + sum);
    store(sums + c + i, load(sums + c + i) + product);
  }
}

// Parts of a batch: they depend on the shapes alone, so that sums do not depend on the number of
// threads. Each part has `size` sums of its own, which are cleared and added: large ones only twice.
int parts_of(int batch, int64_t size) {
  const int most = int(std::max<int64_t>(2, std::min<int64_t>(8, (1 << 21) / size)));
  return std::min(batch, most);
}

// Runs f(0) ... f(parts - 1) on the pool and on this thread. A task that starts when all parts are
// taken touches nothing but the counters, which it keeps alive.
template <class Pool, class F>
void in_parallel(Pool& pool, int parts, const F& f) {
  struct Counters {
    std::atomic<int> next{0}, done{0};
  };
  auto counters = std::make_shared<Counters>();
  auto work = [counters, parts, &f] {
    for (int i; (i = counters->next.fetch_add(1)) < parts;) {
      f(i);
      counters->done.fetch_add(1, std::memory_order_release);
    }
  };
  const int helpers = int(std::min<int64_t>(pool.num_threads(), parts)) - 1;
  for (int t = 0; t < helpers; t++) pool.Schedule([work] { work(); });
  work();
  while (counters->done.load(std::memory_order_acquire) < parts) std::this_thread::yield();
}

// out [n] = the sum of the rows of parts [p, n], always in the same order.
void add_parts(const std::vector<float>& parts, int64_t n, float* out) {
  const int64_t count = int64_t(parts.size()) / n;
  memcpy(out, parts.data(), n * sizeof(float));
  for (int64_t p = 1; p < count; p++)
    for (int64_t i = 0; i < n; i++) out[i] += parts[p * n + i];
}

// ---------------------------------------------------------------------------------------------
// The arguments of calls. A buffer of one element stands for "none".

using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::Result<Array>;
using Stored = ffi::AnyBuffer;  // float32 or bfloat16
using StoredResult = ffi::Result<Stored>;

const float* optional(const Array& a) { return a.element_count() == 1 ? nullptr : a.typed_data(); }

template <class T>
T* optional(const Stored& a) {
  return a.element_count() == 1 ? nullptr : reinterpret_cast<T*>(a.untyped_data());
}
template <class T>
T* optional(StoredResult& a) { return optional<T>(*a); }

// f(a number of the type that is stored).
template <class F>
ffi::Error with_stored(const Stored& a, const F& f) {
  if (a.element_type() == ffi::F32) return f(float{});
#ifdef WITH_HALVES
  if (a.element_type() == ffi::BF16) return f(Half{});
#endif
  return ffi::Error::InvalidArgument("numbers of this type are not stored here");
}

}  // namespace
