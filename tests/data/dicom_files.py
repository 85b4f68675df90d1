"""DICOM files as scanners write them, made by pydicom and compressed by GDCM."""

import io

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

COMPRESSIONS = {
    "JPEG lossless": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEG 2000": gdcm.TransferSyntax.JPEG2000Lossless,
    "RLE": gdcm.TransferSyntax.RLELossless,
}
"""Of those that lose nothing, by their names."""


def dicom(values, *, bits=None, photometric="MONOCHROME2", frames=1, **tags):
    """The bytes of a file with these stored values: ``[H, W]``, or ``[H, W, 3]`` for RGB."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    data.SOPClassUID = CTImageStorage
    first = values[0] if frames > 1 else values
    data.Rows, data.Columns = first.shape[:2]
    data.SamplesPerPixel = first.shape[2] if first.ndim == 3 else 1
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = photometric
    data.BitsAllocated = 8 * values.dtype.itemsize
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    if frames > 1:
        data.NumberOfFrames = frames
    data.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def compressed(encoded, compression, folder):
    """The same file with its pixels compressed, by way of files in ``folder``."""
    plain, small = folder / "plain.dcm", folder / "compressed.dcm"
    plain.write_bytes(encoded)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(COMPRESSIONS[compression]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(small))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return small.read_bytes()


def x_ray(height, width, seed):
    """Something like a chest: 12 bits, bright in the middle; uint16 ``[H, W]``."""
    y, x = np.mgrid[:height, :width]
    body = 2500 - 40 * np.hypot(y - height / 2, x - width / 2)
    noise = np.random.default_rng(seed).normal(0, 60, (height, width))
    return (body + 300 * np.sin(x / (3 + seed % 5)) + noise).clip(0, 4095).astype(np.uint16)
