module microrwkv

go 1.26
