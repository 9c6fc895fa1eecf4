"""FastAPI around a transformers pipeline, as most tutorials show it: no batching across requests."""

import os

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

torch.set_num_threads(int(os.environ["THREADS"]))
classify = pipeline("text-classification", model=os.environ["CHECKPOINT"], dtype=torch.float32)
app = FastAPI()


class Texts(BaseModel):
    """A request: one text or many."""

    texts: list[str]


@app.post("/score")
def score(body: Texts) -> list[dict]:
    """A label for each text."""
    return classify(body.texts, batch_size=32, truncation=True, max_length=128)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=False, log_level="warning")
