// Package wire holds what both ends of Alipay's protocol write in the same way: amounts in
// yuan, times in Beijing and the serial numbers of certificates. Signatures are not here: each
// end has its own code for them, so that the two prove each other.
package wire
