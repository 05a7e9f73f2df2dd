"""The Trainer of Transformers, on a language model of two small layers that is built from its configuration."""

import torch
import transformers

if __name__ == "__main__":
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16, "vocab_size": 40}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=0))
    words = [torch.randint(40, (12,)) for _ in range(48)]
    arguments = transformers.TrainingArguments(
        "out",
        max_steps=12,
        logging_steps=1,
        save_steps=6,
        save_total_limit=1,
        warmup_steps=4,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=4,
        learning_rate=0.01,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    data = [{"input_ids": each, "labels": each} for each in words]
    trainer = transformers.Trainer(model, arguments, train_dataset=data)
    trainer.train()
    for entry in trainer.state.log_history:
        if "loss" in entry:
            print(entry["step"], float(entry["loss"]).hex(), flush=True)
