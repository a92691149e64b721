// Max pooling over windows of 3 x 3 with stride 2 and a border of one pixel, fused with the batch norm
// and the ReLU before it.
//
// NHWC. Two calls for XLA's CPU backend:
//
//   pool_forward    y = max over the window of relu(a x + b)
//   pool_backward   the gradients of x and (a, b); a gradient goes to the first largest value of its
//                   window, row by row, as by XLA

#include "blocks.h"

namespace {

struct Pool {
  int batch, height, width, channels;
  int down() const { return (height + 1) / 2; }
  int across() const { return (width + 1) / 2; }
  int64_t input() const { return int64_t(height) * width * channels; }
  int64_t output() const { return int64_t(down()) * across() * channels; }
};

// The largest value of a x + b in a window, the x that it comes from, and where.
struct Largest {
  Vec value, x;
  Bits at;
};

inline Vec choose(Bits mask, Vec yes, Vec no) { return (Vec)((mask & (Bits)yes) | (~mask & (Bits)no)); }

// `x` is the vector of an image's first pixel; the window's rows are top ... bottom - 1.
template <class T>
Largest largest(const Pool& p, const T* x, Vec a, Vec b, int top, int bottom, int left, int right) {
  Largest found = {Vec{} - __builtin_inff(), Vec{}, Bits{}};
  for (int h = top; h < bottom; h++)
    for (int w = left; w < right; w++) {
      const int at = (h * p.width + w) * p.channels;
      const Vec z = load(x + at), v = a * z + b;
      const Bits more = ~(v <= found.value);
      found = {choose(more, v, found.value), choose(more, z, found.x), (more & (at - Bits{})) | (~more & found.at)};
    }
  return found;
}

// Calls f(window, top, bottom, left, right) for the windows of a row of outputs.
template <class F>
void for_windows(const Pool& p, int row, const F& f) {
  const int top = std::max(0, 2 * row - 1), bottom = std::min(p.height, 2 * row + 2);
  for (int w = 0; w < p.across(); w++) f(w, top, bottom, std::max(0, 2 * w - 1), std::min(p.width, 2 * w + 2));
}

template <class Threads, class T>
void forward(Threads& threads, const Pool& p, const T* x, const float* affine, T* y) {
  const int parts = parts_of(p.batch, 2 * p.channels);
  const int64_t c = p.channels;
  in_parallel(threads, parts, [&](int part) {
    for (int n = p.batch * part / parts; n < p.batch * (part + 1) / parts; n++)
      for (int h = 0; h < p.down(); h++) {
        T* to = y + n * p.output() + h * p.across() * c;
        for_windows(p, h, [&](int w, int top, int bottom, int left, int right) {
          for (int i = 0; i < c; i += kVector) {
            const T* image = x + n * p.input() + i;
            store(to + w * c + i, relu(largest(p, image, load(affine + i), load(affine + c + i), top, bottom, left, right).value));
          }
        });
      }
  });
}

template <class Threads, class T>
void backward(Threads& threads, const Pool& p, const T* dy, const T* x, const float* affine, T* dx, float* sums) {
  const int parts = parts_of(p.batch, 2 * p.channels);
  const int64_t c = p.channels;
  std::vector<float> partial(size_t(parts) * 2 * c);
  in_parallel(threads, parts, [&](int part) {
    float* own = partial.data() + size_t(part) * 2 * c;
    float* added = scratch(kConvolved, p.input());  // in float32
    for (int n = p.batch * part / parts; n < p.batch * (part + 1) / parts; n++) {
      memset(added, 0, p.input() * sizeof(float));
      for (int h = 0; h < p.down(); h++)
        for (int i = 0; i < c; i += kVector) {
          const T *from = dy + n * p.output() + h * p.across() * c + i, *image = x + n * p.input() + i;
          float* to = added + i;
          const Vec a = load(affine + i), b = load(affine + c + i);
          Vec sum = {}, product = {};
          for_windows(p, h, [&](int w, int top, int bottom, int left, int right) {
            const Largest found = largest(p, image, a, b, top, bottom, left, right);
            const Vec g = where_positive(found.value, load(from + w * c));
            sum += g, product += g * found.x;
            for (int r = top; r < bottom; r++)
              for (int s = left; s < right; s++) {
                const int at = (r * p.width + s) * p.channels;
                store(to + at, load(to + at) + (Vec)((Bits)(a * g) & (found.at == at - Bits{})));
              }
          });
          store(own + i, load(own + i) + sum);
          store(own + c + i, load(own + c + i) + product);
        }
      copy(added, p.input(), dx + n * p.input());
    }
  });
  add_parts(partial, 2 * c, sums);
}

// ---------------------------------------------------------------------------------------------
// The calls.

// f(the shape, a number of the type that is stored).
template <class F>
ffi::Error with_pool(const Stored& x, const F& f) {
  const auto d = x.dimensions();
  const Pool p = {int(d[0]), int(d[1]), int(d[2]), int(d[3])};
  if (p.channels % kVector != 0) return ffi::Error::InvalidArgument("channels are no multiple of a vector's width");
  return with_stored(x, [&](auto stored) { return f(p, stored), ffi::Error::Success(); });
}

ffi::Error PoolForward(ffi::ThreadPool threads, Stored x, Array affine, StoredResult y) {
  return with_pool(x, [&](const Pool& p, auto stored) {
    using T = decltype(stored);
    forward(threads, p, optional<T>(x), affine.typed_data(), optional<T>(y));
  });
}

ffi::Error PoolBackward(ffi::ThreadPool threads, Stored dy, Stored x, Array affine, StoredResult dx, Result sums) {
  return with_pool(x, [&](const Pool& p, auto stored) {
    using T = decltype(stored);
    backward(threads, p, optional<T>(dy), optional<T>(x), affine.typed_data(), optional<T>(dx), sums->typed_data());
  });
}

}  // namespace

#define CALL ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
XLA_FFI_DEFINE_HANDLER_SYMBOL(ltjax_pool_forward, PoolForward, CALL.Arg<Stored>().Arg<Array>().Ret<Stored>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(ltjax_pool_backward, PoolBackward,
                              CALL.Arg<Stored>().Arg<Stored>().Arg<Array>().Ret<Stored>().Ret<Array>());
