"""Where factors lie in a file's tensors: views that edit the tensor, as PEFT reads it."""

import numpy as np

from surgery.adapter import ConvSite, ParameterSite, Site


def test_the_tensors_of_a_linear_layer_are_its_factors():
    tensor = np.zeros((4, 3))
    assert Site("m").out_by_rank(tensor) is tensor
    assert Site("m").rank_by_in(tensor) is tensor


def test_a_convolutions_input_runs_over_channels_and_kernel():
    site = ConvSite("m", (5, 3, 3))
    A = np.arange(2.0 * 5 * 9).reshape(2, 5, 3, 3)
    factor = site.rank_by_in(A)
    assert factor.shape == (2, 45)
    factor[1, 44] = -1
    assert A[1, 4, 2, 2] == -1
    assert site.out_by_rank(np.zeros((7, 2, 1, 1))).shape == (7, 2)


def test_experts_share_two_tensors_and_no_number():
    A, B = np.zeros((6, 4)), np.zeros((5, 6))
    for expert in range(3):
        site = ParameterSite("m", "weight", expert, 3)
        site.rank_by_in(A)[:] += expert + 1
        site.out_by_rank(B)[:] += expert + 1
    assert A[:, 0].tolist() == [1, 1, 2, 2, 3, 3]
    assert B[0].tolist() == [1, 2, 3, 1, 2, 3]
