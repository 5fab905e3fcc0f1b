# docker build -t ares . && docker run --gpus all --shm-size 8g -v "$PWD:/work" ares stage=doctor
# Runs, data and the Teacher's ledger are in /work. Keys come with `-e ANTHROPIC_API_KEY`. torch's wheel brings CUDA.
FROM python:3.12-slim

RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir uv

WORKDIR /opt/ares
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY conf conf
COPY src src
RUN uv pip install --system --no-cache --compile-bytecode --constraint constraints.txt '.[openai,quantization,serve]'

ENV HF_HOME=/work/.cache/huggingface PYTHONUNBUFFERED=1
WORKDIR /work
ENTRYPOINT ["ares"]
CMD ["--help"]
