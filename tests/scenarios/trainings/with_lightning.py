"""Lightning, with its own loops, callbacks and checkpoints."""

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

nn = torch.nn


class Model(lightning.LightningModule):
    def __init__(self, lr=0.01):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))

    def training_step(self, batch, index):
        loss = (self.layers(batch[0]) - batch[1]).square().mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", (self.layers(batch[0]) - batch[1]).square().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), self.hparams.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


class Told(lightning.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        print(trainer.global_step, outputs["loss"].item().hex(), flush=True)


if __name__ == "__main__":
    data = TensorDataset(torch.randn(96, 8), torch.randn(96, 1))
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        gradient_clip_val=1.0,
        accumulate_grad_batches=2,
        callbacks=[Told()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(Model(), DataLoader(data, batch_size=8, shuffle=True), DataLoader(data, batch_size=32))
