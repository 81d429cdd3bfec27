"""A U-Net of diffusers with random weights and few channels; the tests that build it need the extra `diffusers`."""

from __future__ import annotations

from typing import Any


def tiny_unet(**channels: int) -> Any:
    """Build a conditional U-Net for latents of 8 x 8, with cross-attention to states of width 16."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
        **channels,
    )
