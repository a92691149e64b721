// Eigenvalues and eigenvectors of a symmetric matrix, on two threads, from LAPACK's own parts.
//
// LAPACK's `ssyevd` runs on one thread where its BLAS does, and multiplies by the reflectors of the
// tridiagonal reduction in blocks of 32 columns. Here the reduction is LAPACK's; its divide and
// conquer is entered at the second level, so that the halves are solved at the same time; and the
// reflectors are multiplied in wide blocks, half of the eigenvectors on each thread. The work is in
// two parts for any number of threads, so the result does not depend on it.
//
// LAPACK and BLAS are those of SciPy, whose addresses `ltjax_use_lapack` receives.

#include <cmath>

#include "blocks.h"

namespace {

using Int = int;
using Text = const char*;

struct Lapack {
  void (*ssytrd)(Text, Int*, float*, Int*, float*, float*, float*, float*, Int*, Int*);
  void (*sstedc)(Text, Int*, float*, float*, float*, Int*, float*, Int*, Int*, Int*, Int*);
  void (*slaed1)(Int*, float*, float*, Int*, Int*, float*, Int*, float*, Int*, Int*);
  void (*sgemm)(Text, Text, Int*, Int*, Int*, const float*, const float*, Int*, const float*, Int*, const float*,
                float*, Int*);
  void (*strsm)(Text, Text, Text, Text, Int*, Int*, const float*, const float*, Int*, float*, Int*);
} lapack;

constexpr Int kBlock = 96;  // reflectors in a block
constexpr float kOne = 1, kZero = 0, kMinus = -1;

using Floats = std::vector<float>;

// Eigenvalues d [n], in an order that `order` (counted from 1) sorts, and eigenvectors z [n, n], in
// columns, of the tridiagonal matrix with the diagonal d and the subdiagonal e, of norm 1. Returns
// whether LAPACK succeeded.
template <class Pool>
bool tridiagonal(Pool& pool, Int n, float* d, float* e, float* z, Int* order) {
  Int middle = n / 2, failed[2] = {};
  float cut = e[middle - 1];
  d[middle - 1] -= std::fabs(cut), d[middle] -= std::fabs(cut);
  std::fill(z, z + size_t(n) * n, 0.0f);
  in_parallel(pool, 2, [&](int half) {
    const Int from = half ? middle : 0;
    Int size = half ? n - middle : middle, floats = 1 + 4 * size + size * size, ints = 3 + 5 * size;
    Floats work(floats);
    std::vector<Int> more(ints);
    lapack.sstedc("I", &size, d + from, e + from, z + size_t(from) * n + from, &n, work.data(), &floats, more.data(),
                  &ints, &failed[half]);
    for (Int i = 0; i < size; i++) order[from + i] = i + 1;
  });
  if (failed[0] || failed[1]) return false;
  Floats work(size_t(n) * n + 4 * size_t(n));
  std::vector<Int> more(4 * size_t(n));
  lapack.slaed1(&n, d, z, &n, order, &cut, &middle, work.data(), more.data(), &failed[0]);
  return failed[0] == 0;
}

// z [n, n] = Q z, for the product Q = H_0 H_1 ... of the reflectors H_j = I - tau_j v_j v_j^T that
// `ssytrd` leaves below the subdiagonal of `a`. The product of a block of them is I - V U^(-1) V^T,
// where U is the upper triangle of V^T V with the diagonal 1 / tau.
template <class Pool>
void reflect(Pool& pool, Int n, const float* a, const float* tau, float* z) {
  const Int count = n - 1, blocks = (count + kBlock - 1) / kBlock;
  Floats reflectors(size_t(blocks) * kBlock * n), triangles(size_t(blocks) * kBlock * kBlock);
  Int wide = kBlock;
  in_parallel(pool, blocks, [&](int b) {
    const Int first = b * kBlock;
    Int rows = count - first, size = std::min(kBlock, rows);
    float* v = &reflectors[size_t(b) * kBlock * n];
    float* u = &triangles[size_t(b) * kBlock * kBlock];
    for (Int j = 0; j < size; j++) {
      float* to = v + size_t(j) * rows;  // zero above the unit diagonal
      to[j] = 1;
      memcpy(to + j + 1, a + size_t(first + j) * n + first + j + 2, sizeof(float) * (rows - j - 1));
    }
    lapack.sgemm("T", "N", &size, &size, &rows, &kOne, v, &rows, v, &rows, &kZero, u, &wide);
    // Where tau is 0 the reflector is I: a huge diagonal makes its row of U^(-1) vanish.
    for (Int j = 0; j < size; j++) u[size_t(j) * kBlock + j] = tau[first + j] != 0 ? 1 / tau[first + j] : 1e30f;
  });
  in_parallel(pool, 2, [&](int half) {
    const Int from = half ? n / 2 : 0;
    Int columns = half ? n - n / 2 : n / 2;
    Floats product(size_t(kBlock) * columns);
    for (Int b = blocks - 1; b >= 0; b--) {
      const Int first = b * kBlock;
      Int rows = count - first, size = std::min(kBlock, rows);
      const float* v = &reflectors[size_t(b) * kBlock * n];
      float* part = z + size_t(from) * n + first + 1;
      lapack.sgemm("T", "N", &size, &columns, &rows, &kOne, v, &rows, part, &n, &kZero, product.data(), &wide);
      lapack.strsm("L", "U", "N", "N", &size, &columns, &kOne, &triangles[size_t(b) * kBlock * kBlock], &wide,
                   product.data(), &wide);
      lapack.sgemm("N", "N", &rows, &columns, &size, &kMinus, v, &rows, product.data(), &wide, &kOne, part, &n);
    }
  });
}

template <class Pool>
bool decompose(Pool& pool, Int n, const float* matrix, float* values, float* vectors) {
  const size_t size = size_t(n) * n;
  if (!std::all_of(matrix, matrix + size, [](float x) { return std::isfinite(x); })) return false;
  Floats a(matrix, matrix + size), d(n), e(n), tau(n), work(32 * size_t(n)), z(size);
  std::vector<Int> order(n);
  Int floats = 32 * n, failed = 0;
  lapack.ssytrd("L", &n, a.data(), &n, d.data(), e.data(), tau.data(), work.data(), &floats, &failed);
  float norm = 0;
  for (Int i = 0; i < n; i++) norm = std::max({norm, std::fabs(d[i]), std::fabs(e[i])});
  if (norm == 0) norm = 1;
  for (Int i = 0; i < n; i++) d[i] /= norm, e[i] /= norm;
  if (failed || !tridiagonal(pool, n, d.data(), e.data(), z.data(), order.data())) return false;
  for (Int i = 0; i < n; i++) {
    values[i] = d[order[i] - 1] * norm;
    memcpy(vectors + size_t(i) * n, &z[size_t(order[i] - 1) * n], sizeof(float) * n);
  }
  reflect(pool, n, a.data(), tau.data(), vectors);
  return true;
}

ffi::Error Eigh(ffi::ThreadPool pool, Array matrix, Result values, Result vectors) {
  const auto shape = matrix.dimensions();
  if (lapack.ssytrd == nullptr || shape.size() != 2 || shape[0] != shape[1] || shape[0] < 8)
    return ffi::Error::InvalidArgument("not a square matrix of at least 8 rows, or no LAPACK");
  const Int n = Int(shape[0]);
  // Like XLA's decomposition: what has none is NaN.
  if (!decompose(pool, n, matrix.typed_data(), values->typed_data(), vectors->typed_data())) {
    std::fill_n(values->typed_data(), n, NAN);
    std::fill_n(vectors->typed_data(), size_t(n) * n, NAN);
  }
  return ffi::Error::Success();
}

}  // namespace

// Addresses of the functions, in the order of `Lapack`.
extern "C" void ltjax_use_lapack(void* const* functions) { memcpy(&lapack, functions, sizeof(lapack)); }

XLA_FFI_DEFINE_HANDLER_SYMBOL(ltjax_eigh, Eigh,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Ret<Array>().Ret<Array>());
