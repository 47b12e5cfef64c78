/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest in one boot sector: waits WAIT timer ticks (18.2 a second), then does ACT.
 *
 *   cc -E -P -DWAIT=9 -DACT=1 guest.S | as --32 -o g.o
 *   ld -m elf_i386 -Ttext 0x7c00 --oformat binary g.o -o off.img && truncate -s 1M off.img
 *
 * ACT 0 idle, 1 power off, 2 suspend to memory (S3), 3 reset, 4 panic, 5 crash loaded, 6 suspend to disk (S4),
 *     7 write the first disk full, sector after sector, until it ends.
 * Boots as a raw virtio or IDE disk on machine 'pc' (power management at port 0x604); 4 and 5 want
 * <panic model='isa'/>.
 */
.code16
.globl _start
_start:
	cli
	xor %ax,%ax
	mov %ax,%ds
	mov %ax,%es
	mov %ax,%ss
	mov $0x7c00,%sp
	sti
	mov $0,%ah
	int $0x1a
	mov %dx,%bx
1:	hlt				/* a waiting guest shall not burn the host's processor */
	mov $0,%ah
	int $0x1a
	sub %bx,%dx			/* a difference: the counter wraps every hour */
	cmp $WAIT,%dx
	jb 1b
#if ACT == 1
	mov $0x604,%dx
	mov $0x2000,%ax
	out %ax,%dx
#elif ACT == 2
	mov $0x604,%dx
	mov $0x2400,%ax
	out %ax,%dx
#elif ACT == 3
	mov $0xfe,%al
	out %al,$0x64
#elif ACT == 4
	mov $0x505,%dx
	mov $1,%al
	out %al,%dx
#elif ACT == 5
	mov $0x505,%dx
	mov $2,%al
	out %al,%dx
#elif ACT == 6
	mov $0x604,%dx
	mov $0x2800,%ax
	out %ax,%dx
#elif ACT == 7
3:	mov $0x43,%ah
	mov $0x80,%dl
	mov $dap,%si
	mov $0,%al
	int $0x13
	jc 2f				/* past the end of the disk */
	addl $64,lba
	jmp 3b
#endif
2:	hlt
	jmp 2b
#if ACT == 7
.align 4
dap:	.byte 16,0
	.word 64,0x7c00,0		/* 64 sectors from 0:7c00 on */
lba:	.quad 64
#endif
.org 510
.word 0xaa55
