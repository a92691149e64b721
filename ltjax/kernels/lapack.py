"""Gives the native kernels the LAPACK and BLAS that SciPy, which JAX needs, brings along."""

import ctypes

# In the order of `Lapack` in eigh.cc.
FUNCTIONS = {
    "cython_lapack": ("ssytrd", "sstedc", "slaed1"),
    "cython_blas": ("sgemm", "strsm"),
}


def use_lapack(library: ctypes.CDLL) -> None:
    """Passes the functions' addresses to a library of kernels.

    Args:
      library: the loaded library.

    Raises:
      AttributeError: SciPy lacks one of them.
    """
    from scipy.linalg import cython_blas, cython_lapack

    name_of, address_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    address_of.restype, address_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    found = []
    for module in (cython_lapack, cython_blas):
        for function in FUNCTIONS[module.__name__.rpartition(".")[2]]:
            capsule = module.__pyx_capi__.get(function)
            if capsule is None:
                raise AttributeError(f"SciPy has no {function}")
            found.append(address_of(capsule, name_of(capsule)))
    library.ltjax_use_lapack((ctypes.c_void_p * len(found))(*found))
