"""Solves at the same time, in threads and in other processes, give what they give one after the other."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from plsolve import infer, root, solve, testing

KINDS = ["gauss-newton", "operator", "gd", "sgd", "infer", "root", "no solution"]


def job(kind):
    """One of every kind of run; SGD draws random numbers, and a run without a solution restarts."""
    p = testing.tanh_system(12, 12 if kind == "root" else 60)
    if kind == "infer":
        return infer(p.F, p.jac, p.w0, p.y, noise=0.1)
    if kind == "root":
        return root(lambda w: p.F(w) - p.y, p.w0)
    if kind == "no solution":
        p = testing.no_solution(6, 15, gap=0.1)
        return solve(p.F, p.jac, p.w0, p.y)
    method, options = (kind, {}) if kind != "operator" else ("gauss-newton", {"linear_solver": "cg"})
    return solve(p.F, p.jac, p.w0, p.y, method=method, options=options, rng=0, max_iter=300)


def outcome(sol):
    return sol.status, sol.nit, sol.nfev, sol.njev, sol.message, sol.x.tobytes(), sol.fun.tobytes()


def test_in_threads():
    alone = [outcome(job(kind)) for kind in KINDS]
    with ThreadPoolExecutor(4) as pool:
        at_once = [outcome(sol) for sol in pool.map(job, KINDS * 4)]
    assert at_once == alone * 4


def test_in_other_processes():
    """Results come back pickled."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(job, KINDS))
    assert [outcome(sol) for sol in found] == [outcome(job(kind)) for kind in KINDS]
