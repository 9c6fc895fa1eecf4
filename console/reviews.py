"""The pages on which people label."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/reviews")
